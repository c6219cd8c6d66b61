// The three matrix products of a block of rows, with both operands packed for the processor.
//
// An operand's values come in units that one instruction multiplies: a float, or two bfloat16 that
// follow each other along the summed dimension. The right operand comes in panels of kPanel
// columns, [columns / kPanel][depth][kPanel] units, so that a panel is read from beginning to end.

#pragma once

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "lanes.h"

namespace {

// A microkernel's part of the product: as many sums as registers hold and the adders keep busy.
#if defined(__AVX512F__)
constexpr int64_t kRows = 8, kVectors = 2;
#else
constexpr int64_t kRows = 4, kVectors = 2;
#endif
constexpr int64_t kPanel = kVectors * kLanes;

// Of AVX2 the compiler would load the right operand anew for each row, more than a core can load.
inline floats kept(floats values) {
#if !defined(__AVX512F__)
    asm("" : "+x"(values));
#endif
    return values;
}

inline floats multiply_add(floats sum, float left, floats right) { return sum + left * right; }
#if defined(__AVX512BF16__)
inline floats multiply_add(floats sum, uint32_t left, floats right) {
    const __m512i both = _mm512_set1_epi32(static_cast<int32_t>(left));
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)both, (__m512bh)right);
}
#endif

// Memory that will be needed, asked for bit by bit while a product is computed.
struct Ahead {
    const char* first;
    const char* second;
    int64_t lines;  // of 64 bytes, of each

    void fetch(int64_t from, int64_t to) const {
        for (int64_t line = from; line < to; ++line) {
            __builtin_prefetch(first + 64 * line, 0, 2);
            __builtin_prefetch(second + 64 * line, 0, 2);
        }
    }
};

// sums [kRows, kPanel] = left [kRows, depth] times a panel of the right operand.
template <typename U>
inline void multiply(
    const U* left, int64_t row_stride, int64_t depth_stride, const U* panel, int64_t depth,
    floats (&sums)[kRows][kVectors], const Ahead& ahead = {}) {
    constexpr int64_t kUnroll = 8;
    int64_t fetched = 0;
    const auto add = [&](int64_t k) {
        floats right[kVectors];
        for (int64_t n = 0; n < kVectors; ++n)
            right[n] = kept(load_as<floats>(panel + k * kPanel + n * kLanes, AllLanes()));
        for (int64_t m = 0; m < kRows; ++m) {
            // Copied, for a pair of bfloat16 is no object of type U.
            U value;
            std::memcpy(&value, left + m * row_stride + k * depth_stride, sizeof value);
            for (int64_t n = 0; n < kVectors; ++n)
                sums[m][n] = multiply_add(sums[m][n], value, right[n]);
        }
    };
    for (int64_t m = 0; m < kRows; ++m)
        for (int64_t n = 0; n < kVectors; ++n) sums[m][n] = floats{};
    int64_t k = 0;
    for (; k + kUnroll <= depth; k += kUnroll) {
        for (int64_t i = 0; i < kUnroll; ++i) add(k + i);
        if (ahead.lines) {
            const int64_t due = ahead.lines * (k + kUnroll) / depth;
            ahead.fetch(fetched, due);
            fetched = due;
        }
    }
    for (; k < depth; ++k) add(k);
}

inline void store_sums(const floats (&sums)[kRows][kVectors], float* to, int64_t stride) {
    for (int64_t m = 0; m < kRows; ++m)
        for (int64_t n = 0; n < kVectors; ++n)
            store_nearest(sums[m][n], to + m * stride + n * kLanes, AllLanes());
}

inline void add_sums(const floats (&sums)[kRows][kVectors], float* to, int64_t stride) {
    for (int64_t m = 0; m < kRows; ++m)
        for (int64_t n = 0; n < kVectors; ++n) {
            float* place = to + m * stride + n * kLanes;
            store_nearest(load(place, AllLanes()) + sums[m][n], place, AllLanes());
        }
}

// Rows [rows, width] as a right operand whose summed dimension is the rows.
inline void pack_rows(const float* from, int64_t rows, int64_t width, float* to) {
    for (int64_t panel = 0; panel < width / kPanel; ++panel)
        for (int64_t i = 0; i < rows; ++i)
            std::memcpy(
                to + (panel * rows + i) * kPanel, from + i * width + panel * kPanel,
                kPanel * sizeof(float));
}

// The same in pairs of rows; the partner of an odd last one is 0.
inline void pack_rows(const bfloat16* from, int64_t rows, int64_t width, uint32_t* to) {
    const int64_t pairs = (rows + 1) / 2;
    for (int64_t panel = 0; panel < width / kPanel; ++panel)
        for (int64_t pair = 0; pair < pairs; ++pair) {
            const bfloat16* even = from + 2 * pair * width + panel * kPanel;
            uint32_t* place = to + (panel * pairs + pair) * kPanel;
            for (int64_t n = 0; n < kPanel; n += kLanes) {
                words low = __builtin_convertvector(load_as<halves>(even + n, AllLanes()), words);
                words high{};
                if (2 * pair + 1 < rows)
                    high = __builtin_convertvector(
                        load_as<halves>(even + width + n, AllLanes()), words);
                words both = low | (high << 16);
                std::memcpy(place + n, &both, sizeof both);
            }
        }
}

}  // namespace
