// Several values at a time: as many as one AVX-512 register holds, or one of AVX2, which other
// processors' registers hold in two.
//
// The compiler's own vector types: of plain loops it would keep the running sums in memory.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace {

#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#else
constexpr int64_t kLanes = 8;
#endif
typedef float floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t ints __attribute__((vector_size(4 * kLanes)));
typedef uint32_t words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t halves __attribute__((vector_size(2 * kLanes)));
using bfloat16 = uint16_t;

// As many values as there are, or a number that is known when compiling, for speed.
using AllLanes = std::integral_constant<int64_t, kLanes>;

template <typename F>
inline void in_lanes(int64_t width, F work) {
    const int64_t whole = width / kLanes * kLanes;
    for (int64_t j = 0; j < whole; j += kLanes) work(j, AllLanes());
    if (whole < width) work(whole, width - whole);
}

// `count` values from memory; what is missing to kLanes is 0.
template <typename V, typename X, typename N>
inline V load_as(const X* from, N count) {
    V values{};
    std::memcpy(&values, from, count * sizeof(X));
    return values;
}
template <typename N>
inline floats load(const float* from, N count) {
    return load_as<floats>(from, count);
}
template <typename N>
inline floats load(const bfloat16* from, N count) {
    return (floats)(__builtin_convertvector(load_as<halves>(from, count), words) << 16);
}

template <typename N>
inline void store_nearest(floats values, float* to, N count) {
    std::memcpy(to, &values, count * sizeof(float));
}
template <typename N>
inline void store_words(words values, uint32_t* to, N count) {
    std::memcpy(to, &values, count * sizeof(uint32_t));
}
template <typename N>
inline void store_upper(words bits, bfloat16* to, N count) {
    halves upper = __builtin_convertvector(bits >> 16, halves);
    std::memcpy(to, &upper, count * sizeof(bfloat16));
}
template <typename N>
inline void store_nearest(floats values, bfloat16* to, N count) {
    words bits = (words)values;
    store_upper(bits + 0x7fffu + ((bits >> 16) & 1u), to, count);
}

// noise in [0, 2^16): the part cut off decides how likely the magnitude is rounded up.
template <typename N>
inline void store_stochastic(floats values, words, float* to, N count) {
    store_nearest(values, to, count);
}
template <typename N>
inline void store_stochastic(floats values, words noise, bfloat16* to, N count) {
    store_upper((words)values + noise, to, count);
}

inline float total(floats values) {
    float lanes[kLanes];
    std::memcpy(lanes, &values, sizeof lanes);
    for (int64_t half = kLanes / 2; half; half /= 2)
        for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
}

// Must equal rounding.mix: both paths draw the same noise.
template <typename U>
inline U mix(U x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

// e^x for x <= 0, to 3e-7 relative: 2^k times a minimax polynomial on [-ln 2 / 2, ln 2 / 2].
inline floats exp_of_negative(floats x) {
    x = x < -87.0f ? floats{} - 87.0f : x;
    const float to_integer = 12582912.0f;  // 1.5 * 2^23: the sum's low bits are round(x / ln 2)
    floats shifted = x * 1.44269504f + to_integer;
    floats f = x - (shifted - to_integer) * 0.693147181f;
    floats p = 0.00831252057f * f + 0.0418901592f;
    p = p * f + 0.166671142f;
    p = p * f + 0.499992311f;
    p = p * (f * f) + (f + 1.0f);
    return (floats)((words)p + ((words)shifted << 23));
}

// log(1 + e) for e in [0, 1], to 3e-7 relative also for tiny e: e times a minimax polynomial.
inline floats log1p_of_unit(floats e) {
    floats p = -0.00877894275f * e + 0.0449866019f;
    p = p * e - 0.109022856f;
    p = p * e + 0.178472042f;
    p = p * e - 0.245368645f;
    p = p * e + 0.332840647f;
    p = p * e - 0.499981791f;
    return p * (e * e) + e;
}

template <int N>
inline floats power(floats base) {
    floats product = floats{} + 1.0f;
    for (int i = 0; i < N; ++i) product *= base;
    return product;
}

}  // namespace
