// The element-wise half of a head step on a CPU: what kernels.TorchKernels does, in one pass over
// memory. Built on first use by compiled.py; plain loops that the compiler vectorises.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using bfloat16 = uint16_t;

inline float from_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t to_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float load(float value) { return value; }
inline float load(bfloat16 value) { return from_bits(static_cast<uint32_t>(value) << 16); }

inline void store_nearest(float value, float* to) { *to = value; }
inline void store_nearest(float value, bfloat16* to) {
    uint32_t bits = to_bits(value);
    *to = static_cast<bfloat16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// noise in [0, 2^16): the part cut off decides how likely the magnitude is rounded up.
inline void store_stochastic(float value, uint32_t, float* to) { *to = value; }
inline void store_stochastic(float value, uint32_t noise, bfloat16* to) {
    *to = static_cast<bfloat16>((to_bits(value) + noise) >> 16);
}

// Must equal rounding.mix: both paths draw the same noise.
inline uint32_t mix(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

// e^x for x <= 0, to 1e-7 relative: 2^k times a polynomial on [-ln 2 / 2, ln 2 / 2].
inline float exp_of_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float to_integer = 12582912.0f;  // 1.5 * 2^23: the sum's low bits are round(x / ln 2)
    float shifted = x * 1.44269504f + to_integer;
    uint32_t k = to_bits(shifted);
    float whole = shifted - to_integer;
    float f = x - whole * 0.693359375f;
    f += whole * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * f + 1.0f / 720;
    p = p * f + 1.0f / 120;
    p = p * f + 1.0f / 24;
    p = p * f + 1.0f / 6;
    p = p * f + 0.5f;
    p = p * f * f + f + 1.0f;
    return p * from_bits((k + 127u) << 23);
}

// log(1 + e) for e in [0, 1], to 1e-7 relative also for tiny e: 2 atanh(e / (2 + e)).
inline float log1p_of_unit(float e) {
    float s = e / (2.0f + e);
    float q = s * s;
    float p = 1.0f / 13;
    p = p * q + 1.0f / 11;
    p = p * q + 1.0f / 9;
    p = p * q + 1.0f / 7;
    p = p * q + 1.0f / 5;
    p = p * q + 1.0f / 3;
    return 2.0f * s * (p * q + 1.0f);
}

template <int N>
inline float power(float base) {
    float product = 1.0f;
    for (int i = 0; i < N; ++i) product *= base;
    return product;
}

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
    float bias, r, margin, factor;
};

template <typename X, int T, bool FULL>
void negatives(const Negatives& a) {
    // Copies: a store through grad might change what a reference leads to.
    const float r = a.r, bias = a.bias, margin = a.margin, boundary = a.r * a.margin;
    const int32_t* labels = a.labels;
    const float* own_grad = a.own_grad;
    const int64_t batch = a.batch;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < a.rows; ++i) {
        const X* cos = static_cast<const X*>(a.cos) + i * batch;
        X* grad = static_cast<X*>(a.grad) + i * batch;
        const float weight = a.row_weight ? a.row_weight[i] : 1.0f;
        const float scale = a.factor * r * weight;
        const int32_t own_label = static_cast<int32_t>(a.first + i);
        float loss = 0.0f, push = 0.0f, cosine = 0.0f, above = 0.0f;
#pragma omp simd reduction(+ : loss, push, cosine, above)
        for (int64_t j = 0; j < batch; ++j) {
            float c = load(cos[j]);
            float base = (c + 1.0f) * 0.5f;
            base = base < 0.0f ? 0.0f : base;
            float u = r * (2.0f * power<T>(base) - 1.0f + margin) + bias;
            float e = exp_of_negative(-std::fabs(u));
            float sigmoid = (u >= 0.0f ? 1.0f : e) / (1.0f + e);
            float softplus = (u > 0.0f ? u : 0.0f) + log1p_of_unit(e);
            float slope = FULL ? T * power<T - 1>(base) : 1.0f;
            bool own = labels[j] == own_label;
            float counted = own ? 0.0f : 1.0f;
            loss += counted * softplus;
            push += counted * sigmoid;
            cosine += counted * c;
            above += u > boundary ? counted : 0.0f;
            store_nearest(own ? own_grad[j] : sigmoid * slope * scale, &grad[j]);
        }
        a.loss[i] = loss * a.factor * weight;
        a.push[i] = push * a.factor * weight;
        a.cosine[i] = cosine * weight;
        a.above[i] = above * weight;
    }
}

template <typename X>
void dispatch(const Negatives& a, int t, bool full) {
    switch (t) {
        case 1: return full ? negatives<X, 1, true>(a) : negatives<X, 1, false>(a);
        case 2: return full ? negatives<X, 2, true>(a) : negatives<X, 2, false>(a);
        case 3: return full ? negatives<X, 3, true>(a) : negatives<X, 3, false>(a);
        case 4: return full ? negatives<X, 4, true>(a) : negatives<X, 4, false>(a);
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

template <typename W, typename G>
void update(const Update& a) {
    const float lr = a.lr, mu = a.mu, decay = a.decay;
    const int64_t width = a.width;
#pragma omp parallel
    {
        std::vector<float> next(a.width), moved(a.width);
        float* raw = next.data();
        float* buffer = moved.data();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < a.rows; ++i) {
            W* weight = static_cast<W*>(a.weight) + i * width;
            W* momentum = a.momentum ? static_cast<W*>(a.momentum) + i * width : nullptr;
            const G* grad = static_cast<const G*>(a.grad) + i * width;
            fetch(weight + a.rows * width, width);
            if (momentum) fetch(momentum + kRowsAhead * width, width);
            float square = 0.0f;
            if (momentum) {
#pragma omp simd reduction(+ : square)
                for (int64_t j = 0; j < width; ++j) {
                    float w = load(weight[j]);
                    buffer[j] = mu * load(momentum[j]) + load(grad[j]) + decay * w;
                    raw[j] = w - lr * buffer[j];
                    square += raw[j] * raw[j];
                }
            } else {
#pragma omp simd reduction(+ : square)
                for (int64_t j = 0; j < width; ++j) {
                    float w = load(weight[j]);
                    raw[j] = w - lr * (load(grad[j]) + decay * w);
                    square += raw[j] * raw[j];
                }
            }
            const float norm = std::sqrt(square);
            const float inverse = 1.0f / (norm < 1e-12f ? 1e-12f : norm);
            const uint32_t row_seed = mix(mix(static_cast<uint32_t>(a.first + i)) ^ a.seed);
#pragma omp simd
            for (int64_t j = 0; j < width; ++j) {
                uint32_t noise = mix(row_seed + static_cast<uint32_t>(j) * 0x9e3779b9u);
                store_stochastic(raw[j] * inverse, noise & 0xffffu, &weight[j]);
                if (momentum) store_stochastic(buffer[j], noise >> 16, &momentum[j]);
            }
        }
    }
}

}  // namespace

extern "C" {

void sf2_negatives(const Negatives* a, int is_bfloat16, int t, int full) {
    is_bfloat16 ? dispatch<bfloat16>(*a, t, full) : dispatch<float>(*a, t, full);
}

void sf2_update(const Update* a, int weight_is_bfloat16, int grad_is_bfloat16) {
    if (weight_is_bfloat16)
        grad_is_bfloat16 ? update<bfloat16, bfloat16>(*a) : update<bfloat16, float>(*a);
    else
        grad_is_bfloat16 ? update<float, bfloat16>(*a) : update<float, float>(*a);
}
}
