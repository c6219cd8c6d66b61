// The element-wise half of a head step: what kernels.TorchKernels does, in one pass over memory.

#pragma once

#include <algorithm>
#include <cmath>

#include "buffer.h"
#include "lanes.h"

namespace {

struct Negatives {
    const void* cos;
    void* grad;
    float* loss;
    float* push;
    float* cosine;
    float* above;
    const int32_t* labels;
    const float* own_grad;
    const float* row_weight;  // null: every row counts once
    int64_t first, rows, batch;
    int64_t stride;  // of cos and grad, from row to row
    float bias, r, margin, factor;
};

// Rows `from` ... `to` of a tile: cosines of type C to gradients of type G.
template <typename C, typename G, int T, bool FULL>
void negatives(const Negatives& shared, int64_t from, int64_t to) {
    const Negatives a = shared;  // A store through grad might change what a reference leads to.
    const float slope = 2.0f * a.r, offset = a.r * (a.margin - 1.0f) + a.bias;
    const float boundary = a.r * a.margin;
    const floats zero{}, one = zero + 1.0f;
    for (int64_t i = from; i < to; ++i) {
        const C* cos = static_cast<const C*>(a.cos) + i * a.stride;
        G* grad = static_cast<G*>(a.grad) + i * a.stride;
        const float weight = a.row_weight ? a.row_weight[i] : 1.0f;
        const float scale = a.factor * a.r * weight * (FULL ? T : 1);
        const int32_t row = static_cast<int32_t>(a.first + i);
        floats loss{}, push{}, cosine{};
        ints above{};
        in_lanes(a.batch, [&](int64_t j, auto count) {
            floats c = load(cos + j, count);
            floats base = c * 0.5f + 0.5f;
            base = base < 0.0f ? zero : base;
            floats by_base = power<T - 1>(base);
            floats u = slope * (by_base * base) + offset;
            floats e = exp_of_negative((floats)((words)u | 0x80000000u));
            floats sigmoid = (u >= 0.0f ? one : e) / (1.0f + e);
            floats softplus = (u > 0.0f ? u : zero) + log1p_of_unit(e);
            ints own = load_as<ints>(a.labels + j, count) == row;
            floats by_cos = sigmoid * (scale * (FULL ? by_base : one));
            store_nearest(own ? load(a.own_grad + j, count) : by_cos, grad + j, count);
            // Lanes beyond `count` add nothing.
            for (int64_t lane = count; lane < kLanes; ++lane) own[lane] = -1;
            loss = own ? loss : loss + softplus;
            push = own ? push : push + sigmoid;
            cosine = own ? cosine : cosine + c;
            above -= ~own & (u > boundary);
        });
        a.loss[i] = total(loss) * a.factor * weight;
        a.push[i] = total(push) * a.factor * weight;
        a.cosine[i] = total(cosine) * weight;
        a.above[i] = total(__builtin_convertvector(above, floats)) * weight;
    }
}

using NegativesOfRows = void (*)(const Negatives&, int64_t, int64_t);

template <typename C, typename G>
NegativesOfRows choose_negatives(int t, bool full) {
    switch (t) {
        case 1: return full ? negatives<C, G, 1, true> : negatives<C, G, 1, false>;
        case 2: return full ? negatives<C, G, 2, true> : negatives<C, G, 2, false>;
        case 3: return full ? negatives<C, G, 3, true> : negatives<C, G, 3, false>;
        default: return full ? negatives<C, G, 4, true> : negatives<C, G, 4, false>;
    }
}

struct Update {
    void* weight;
    void* momentum;  // null: none is kept
    const void* grad;
    int64_t first, rows, width;
    float lr, mu, decay;
    uint32_t seed;
};

constexpr int64_t kRowsAhead = 8;

// Asks for a row before it is needed: rows are read once a step, and what the processor asks for by
// itself ends at each page.
template <typename W>
inline void fetch(const W* row, int64_t width) {
    const char* from = reinterpret_cast<const char*>(row);
    for (int64_t byte = 0; byte < width * static_cast<int64_t>(sizeof(W)); byte += 64)
        __builtin_prefetch(from + byte);
}

// Rows `from` ... `to`: momentum SGD, and back to unit length. `ahead`: ask for rows to come.
template <typename W, typename G>
void update(const Update& a, int64_t from, int64_t to, bool ahead) {
    words column;
    for (int64_t lane = 0; lane < kLanes; ++lane) column[lane] = static_cast<uint32_t>(lane);
    Buffer<float> next(a.width);
    Buffer<uint32_t> bits(a.width);
    for (int64_t i = from; i < to; ++i) {
        W* weight = static_cast<W*>(a.weight) + i * a.width;
        W* momentum = a.momentum ? static_cast<W*>(a.momentum) + i * a.width : nullptr;
        const G* grad = static_cast<const G*>(a.grad) + i * a.width;
        float* raw = next.data();
        uint32_t* noise = bits.data();
        if (ahead) {
            fetch(weight + a.rows * a.width, a.width);
            if (momentum) fetch(momentum + kRowsAhead * a.width, a.width);
        }
        const uint32_t row_seed = mix(mix(static_cast<uint32_t>(a.first + i)) ^ a.seed);
        floats square{};
        in_lanes(a.width, [&](int64_t j, auto count) {
            words drawn = mix(row_seed + (column + static_cast<uint32_t>(j)) * 0x9e3779b9u);
            if (sizeof(W) == sizeof(bfloat16)) store_words(drawn & 0xffffu, noise + j, count);
            floats w = load(weight + j, count);
            floats moved = load(grad + j, count) + a.decay * w;
            if (momentum) {
                moved += a.mu * load(momentum + j, count);
                store_stochastic(moved, drawn >> 16, momentum + j, count);
            }
            floats stepped = w - a.lr * moved;
            square += stepped * stepped;
            store_nearest(stepped, raw + j, count);
        });
        const float inverse = 1.0f / std::max(std::sqrt(total(square)), 1e-12f);
        in_lanes(a.width, [&](int64_t j, auto count) {
            floats unit = load(raw + j, count) * inverse;
            store_stochastic(unit, load_as<words>(noise + j, count), weight + j, count);
        });
    }
}

}  // namespace
