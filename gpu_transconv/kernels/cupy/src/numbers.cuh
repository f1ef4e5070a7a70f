// Element types: storage T, accumulation type Sum<T>, complex arithmetic, activations.
#pragma once

#include "primitives.cuh"

namespace gtc {

template <class Real>
struct alignas(2 * sizeof(Real)) complex {
    Real re, im;
};

template <class T>
struct SumOf {
    using type = T;
};
template <>
struct SumOf<half> {
    using type = float;
};
template <>
struct SumOf<bfloat16> {
    using type = float;
};
template <class T>
using Sum = typename SumOf<T>::type;
template <class T>
constexpr int SUM_BYTES = sizeof(Sum<T>);

// N neighbours that move together; aligned to 16 bytes at most, the widest access there is.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Vector {
    T at[N];
};

template <class T>
GTC_DEVICE T widen(T value) {
    return value;
}
GTC_DEVICE float widen(half value) { return to_float(value); }
GTC_DEVICE float widen(bfloat16 value) { return to_float(value); }

template <class T>
struct Narrow {
    GTC_DEVICE static T from(Sum<T> value) { return value; }
};
template <>
struct Narrow<half> {
    GTC_DEVICE static half from(float value) { return from_float<half>(value); }
};
template <>
struct Narrow<bfloat16> {
    GTC_DEVICE static bfloat16 from(float value) { return from_float<bfloat16>(value); }
};

template <class To, class From>
GTC_DEVICE To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    union {
        From from;
        To to;
    } bits{value};
    return bits.to;
}

// To the nearest TF32 number, ties away from zero, as the matrix instructions' own conversion; NaN and Inf stay.
GTC_DEVICE float round_to_tf32(float value) {
    const uint32_t bits = bits_as<uint32_t>(value);
    return (bits & 0x7f800000u) == 0x7f800000u ? value : bits_as<float>((bits + 0x1000u) & ~0x1fffu);
}

// zero<A>(), and sum += a*b. Written out for complex numbers as the definition has it: no special cases for NaN.
template <class A>
GTC_DEVICE A zero() {
    return A{};
}

GTC_DEVICE void multiply_add(float& sum, float a, float b) { sum = fmaf(a, b, sum); }
GTC_DEVICE void multiply_add(double& sum, double a, double b) { sum = fma(a, b, sum); }

template <class Real>
GTC_DEVICE void multiply_add(complex<Real>& sum, complex<Real> a, complex<Real> b) {
    multiply_add(sum.re, a.re, b.re);
    multiply_add(sum.re, -a.im, b.im);
    multiply_add(sum.im, a.re, b.im);
    multiply_add(sum.im, a.im, b.re);
}

GTC_DEVICE float add(float a, float b) { return a + b; }
GTC_DEVICE double add(double a, double b) { return a + b; }
template <class Real>
GTC_DEVICE complex<Real> add(complex<Real> a, complex<Real> b) {
    return {a.re + b.re, a.im + b.im};
}

GTC_DEVICE bool is_finite(float value) { return fabsf(value) <= 3.402823466e38f; }
GTC_DEVICE bool is_finite(double value) { return fabs(value) <= 1.7976931348623157e308; }
template <class Real>
GTC_DEVICE bool is_finite(complex<Real> value) {
    return is_finite(value.re) && is_finite(value.im);
}

template <class Real>
GTC_DEVICE void atomic_add(complex<Real>* to, complex<Real> value) {
    atomic_add(&to->re, value.re);
    atomic_add(&to->im, value.im);
}

// Activations; the codes are in geometry.py.
enum { LINEAR, RELU, LEAKY_RELU, TANH, SIGMOID, SILU, GELU };

GTC_DEVICE float tanh_of(float v) { return tanhf(v); }
GTC_DEVICE double tanh_of(double v) { return tanh(v); }

// tanh(x + iy) = (sinh 2x + i sin 2y) / (cosh 2x + cos 2y); beyond |x| = 20 it is 1 to the last bit.
template <class Real>
GTC_DEVICE complex<Real> tanh_of(complex<Real> v) {
    if (v.re > Real(20)) return {Real(1), Real(0)};
    if (v.re < Real(-20)) return {Real(-1), Real(0)};
    const Real below = cosh(2 * v.re) + cos(2 * v.im);
    return {sinh(2 * v.re) / below, sin(2 * v.im) / below};
}

template <class Real>
GTC_NOINLINE Real activate(Real v, int code, double slope) {
    if (code == RELU) return v < Real(0) ? Real(0) : v;
    if (code == LEAKY_RELU) return v < Real(0) ? v * static_cast<Real>(slope) : v;
    if (code == TANH) return tanh_of(v);
    if (code == GELU) {
        return v * (Real(0.5) + Real(0.5) * tanh_of(Real(0.7978845608028654) * (v + Real(0.044715) * v * v * v)));
    }
    const Real logistic = Real(0.5) + Real(0.5) * tanh_of(Real(0.5) * v);
    return code == SIGMOID ? logistic : code == SILU ? v * logistic : v;
}

template <class Real>
GTC_NOINLINE complex<Real> activate(complex<Real> v, int code, double) {
    if (code == TANH) return tanh_of(v);
    const complex<Real> t = tanh_of(complex<Real>{v.re / 2, v.im / 2});
    const complex<Real> logistic{Real(0.5) + t.re / 2, t.im / 2};
    if (code == SIGMOID) return logistic;
    if (code != SILU) return v;
    return {v.re * logistic.re - v.im * logistic.im, v.re * logistic.im + v.im * logistic.re};
}

// The same of several, in one call.
template <class A, int N>
GTC_NOINLINE Vector<A, N> activate_all(Vector<A, N> values, int code, double slope) {
    GTC_UNROLL
    for (int i = 0; i < N; ++i) values.at[i] = activate(values.at[i], code, slope);
    return values;
}

// Bias, activation and rounding of several; one bias for all of them, or one for each.
template <class T, int N, int BIASES>
GTC_DEVICE Vector<T, N> finish_all(Vector<Sum<T>, N> sums, const Vector<Sum<T>, BIASES>& biases, int activation,
                                   double slope) {
    GTC_UNROLL
    for (int i = 0; i < N; ++i) sums.at[i] = add(sums.at[i], biases.at[i % BIASES]);
    if (activation != LINEAR) sums = activate_all(sums, activation, slope);
    Vector<T, N> finished;
    GTC_UNROLL
    for (int i = 0; i < N; ++i) finished.at[i] = Narrow<T>::from(sums.at[i]);
    return finished;
}

// Whether COUNT neighbouring elements can be written at once from where `array` is.
template <int COUNT, class T>
GTC_DEVICE bool is_aligned(const T* array) {
    return reinterpret_cast<unsigned long long>(array) % sizeof(Vector<T, COUNT>) == 0;
}

// bias and activation, then one rounding to the stored type.
template <class T>
GTC_DEVICE T finish(Sum<T> sum, Sum<T> bias, int activation, double slope) {
    sum = add(sum, bias);
    return Narrow<T>::from(activation == LINEAR ? sum : activate(sum, activation, slope));
}

}  // namespace gtc
