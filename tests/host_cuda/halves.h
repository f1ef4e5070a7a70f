// Half types as bits, to float and back, to nearest even.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace cuda_on_host {

inline float float_of_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t bits_of_float(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of_bfloat16(uint16_t bits) { return float_of_bits(static_cast<uint32_t>(bits) << 16); }

inline float float_of_half(uint16_t bits) {
    const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, digits = bits & 0x3ffu;
    if (exponent == 31) return float_of_bits(sign | 0x7f800000u | digits << 13);
    if (exponent) return float_of_bits(sign | (exponent + 112) << 23 | digits << 13);
    const float small = static_cast<float>(digits) * 0x1p-24f;
    return sign ? -small : small;
}

inline uint16_t bfloat16_of(float value) {
    const uint32_t bits = bits_of_float(value);
    if (std::isnan(value)) return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

inline uint16_t half_of(float value) {
    const uint32_t bits = bits_of_float(value);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const float size = std::fabs(value);
    if (std::isnan(value)) return 0x7fff;
    if (size >= 65520.0f) return static_cast<uint16_t>(sign | 0x7c00u);
    if (size < 0x1p-14f)  // the sum's last bit is the half type's smallest number
        return static_cast<uint16_t>(sign | (bits_of_float(size + 0.5f) - bits_of_float(0.5f)));
    const uint32_t rounded = (bits & 0x7fffffffu) + 0xfffu + (bits >> 13 & 1u);
    return static_cast<uint16_t>(sign | (rounded - (112u << 23)) >> 13);
}

// The low 13 bits of a register are not part of a TF32 number.
inline float float_of_tf32(uint32_t bits) { return float_of_bits(bits & ~0x1fffu); }

}  // namespace cuda_on_host
