// What runner.py calls: KERNEL(name) exports the kernel's entry point and what is known of its parameters.
#pragma once

#include <type_traits>
#include <utility>

namespace cuda_on_host {

template <class T>
struct Entry;

template <class... P>
struct Entry<void (*)(P...)> {
    static constexpr unsigned count = sizeof...(P);
    static constexpr unsigned bytes[] = {sizeof(P)..., 0};
    // 'c': pointer to what the kernel only reads, 'p': pointer, 'v': value.
    static constexpr char kinds[] = {(!std::is_pointer_v<P>                       ? 'v'
                                      : std::is_const_v<std::remove_pointer_t<P>> ? 'c'
                                                                                  : 'p')...,
                                     0};

    template <size_t... I>
    __attribute__((no_sanitize("thread"))) static void call(void (*kernel)(P...), void** values,
                                                            std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_const_t<P>*>(values[I])...);
    }
};

}  // namespace cuda_on_host

#define KERNEL(...)                                                                                            \
    using TheEntry = cuda_on_host::Entry<decltype(&__VA_ARGS__)>;                                              \
    extern "C" __attribute__((visibility("default"), no_sanitize("thread"))) void entry(void** values) {       \
        TheEntry::call(&__VA_ARGS__, values, std::make_index_sequence<TheEntry::count>());                     \
    }                                                                                                          \
    extern "C" __attribute__((visibility("default"))) const unsigned parameter_count = TheEntry::count;        \
    extern "C" __attribute__((visibility("default"))) const unsigned* const parameter_bytes = TheEntry::bytes; \
    extern "C" __attribute__((visibility("default"))) const char* const parameter_kinds = TheEntry::kinds;
