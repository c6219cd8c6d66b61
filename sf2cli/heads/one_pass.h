// A whole step of a shard, block by block of rows while the block is in cache: what
// tiles.shard_pass does with HeadSGD's update, without a library's products between the kernels.
// While one block is multiplied, the memory of the next is on its way.

#pragma once

#include <omp.h>

#include <chrono>

#include "buffer.h"
#include "elementwise.h"
#include "products.h"

namespace {

struct Pass {
    Negatives negatives;    // cos, grad and the sums are the pass's own
    Update update;          // grad is the pass's own
    const void* inputs;     // unit features [B, d] as a right operand that is summed over d; like
                            // scaled, of the products' type
    const void* scaled;     // features times the loss's scale, summed over the batch
    double* sums;           // [threads][4]
    double* grad_features;  // [threads][padded batch][d]
    double* seconds;        // [3]: products, element-wise, update; of the last thread, the fullest
    int64_t threads;        // at most; what a thread that does not come would fill stays as it is
    int64_t padded;         // the batch, up to a multiple of kPanel; features beyond it are 0
    int64_t only_products;  // of the first block, again and again: the machine's own rate
};

constexpr int64_t kBlock = 128;  // rows; a multiple of kRows
constexpr int64_t kBlocksASum = 64;  // whose feature gradients are summed in float

template <typename P>
struct Unit;
template <>
struct Unit<float> {
    using type = float;
    static constexpr int64_t kValues = 1;
};
template <>
struct Unit<bfloat16> {
    using type = uint32_t;
    static constexpr int64_t kValues = 2;
};

// Rows of type W in blocks, their products taken in type P.
template <typename W, typename P>
class Block {
    using U = typename Unit<P>::type;
    static constexpr int64_t kValues = Unit<P>::kValues;

  public:
    Block(const Pass& pass, NegativesOfRows negatives, double* sums, double* grad_features)
        : pass_(pass), negatives_(negatives), sums_(sums), total_(grad_features),
          width_(pass.update.width), padded_(pass.padded), rows_(kBlock * width_),
          cos_(kBlock * padded_), grad_(kBlock * padded_), pairs_(kBlock / kValues * padded_),
          panels_(kBlock / kValues * width_), grad_rows_(kBlock * width_),
          grad_features_(padded_ * width_), of_row_(4 * kBlock) {}

    void step(int64_t first, int64_t rows) {
        const auto began = std::chrono::steady_clock::now();
        W* weight = static_cast<W*>(pass_.update.weight) + first * width_;
        const P* operand = as_operand(weight, rows);
        cosines(operand, weight, first, rows);
        const auto multiplied = std::chrono::steady_clock::now();
        if (!pass_.only_products) logit_gradients(first, rows);
        const auto differentiated = std::chrono::steady_clock::now();
        feature_gradients(operand, rows);
        row_gradients(rows);
        const auto again = std::chrono::steady_clock::now();
        if (!pass_.only_products) {
            Update a = pass_.update;
            a.weight = weight;
            if (a.momentum) a.momentum = static_cast<W*>(a.momentum) + first * width_;
            a.grad = grad_rows_.data();
            a.first += first;
            update<W, float>(a, 0, rows, false);
        }
        const auto ended = std::chrono::steady_clock::now();
        if (++blocks_ % kBlocksASum == 0) flush();
        add_seconds(0, multiplied - began + again - differentiated);
        add_seconds(1, differentiated - multiplied);
        add_seconds(2, ended - again);
    }

    void flush() {
        for (int64_t i = 0; i < padded_ * width_; ++i) {
            total_[i] += grad_features_[i];
            grad_features_[i] = 0.0f;
        }
    }

  private:
    // Copied where the types differ, and where the products, which read whole groups of rows, would
    // read beyond the last.
    const P* as_operand(const W* weight, int64_t rows) {
        if constexpr (std::is_same_v<W, P>) {
            if (rows % kRows == 0) return weight;
            std::copy_n(weight, rows * width_, rows_.data());
        } else {
            in_lanes(rows * width_, [&](int64_t j, auto count) {
                store_nearest(load(weight + j, count), rows_.data() + j, count);
            });
        }
        return rows_.data();
    }

    void cosines(const P* operand, const W* weight, int64_t first, int64_t rows) {
        const int64_t panels = padded_ / kPanel, depth = width_ / kValues;
        const int64_t lines = pass_.only_products
            ? 0 : kRows * width_ * static_cast<int64_t>(sizeof(W)) / 64;
        const W* next = weight + kBlock * width_;
        const W* momentum = pass_.update.momentum
            ? static_cast<const W*>(pass_.update.momentum) + first * width_ : next;
        for (int64_t panel = 0; panel < panels; ++panel)
            for (int64_t i = 0; i < rows; i += kRows) {
                const int64_t begin = lines * panel / panels;
                const auto part = [&](const W* rows_ahead) {
                    return reinterpret_cast<const char*>(rows_ahead + i * width_) + 64 * begin;
                };
                const Ahead ahead{part(momentum), part(next), lines * (panel + 1) / panels - begin};
                floats sums[kRows][kVectors];
                multiply(
                    reinterpret_cast<const U*>(operand + i * width_), depth, 1,
                    static_cast<const U*>(pass_.inputs) + panel * depth * kPanel, depth, sums,
                    ahead);
                store_sums(sums, cos_.data() + i * padded_ + panel * kPanel, padded_);
            }
    }

    void logit_gradients(int64_t first, int64_t rows) {
        Negatives a = pass_.negatives;
        a.cos = cos_.data();
        a.grad = grad_.data();
        a.loss = of_row_.data();
        a.push = a.loss + kBlock;
        a.cosine = a.push + kBlock;
        a.above = a.cosine + kBlock;
        a.first = first;
        a.stride = padded_;
        negatives_(a, 0, rows);
        for (int64_t kind = 0; kind < 4; ++kind)
            for (int64_t i = 0; i < rows; ++i) sums_[kind] += of_row_[kind * kBlock + i];
    }

    void feature_gradients(const P* operand, int64_t rows) {
        const int64_t depth = (rows + kValues - 1) / kValues;
        pack_rows(operand, rows, width_, panels_.data());
        const U* left = by_row(rows);
        for (int64_t panel = 0; panel < width_ / kPanel; ++panel)
            for (int64_t j = 0; j < padded_; j += kRows) {
                floats sums[kRows][kVectors];
                multiply(
                    left + j, 1, padded_, panels_.data() + panel * depth * kPanel, depth, sums);
                add_sums(sums, grad_features_.data() + j * width_ + panel * kPanel, width_);
            }
    }

    // The logit gradients in units along the rows, [rows / kValues][padded].
    const U* by_row(int64_t rows) {
        if constexpr (kValues == 1) {
            return grad_.data();
        } else {
            if (rows % 2) std::fill_n(grad_.data() + rows * padded_, padded_, P{});
            for (int64_t i = 0; i < rows; i += 2)
                for (int64_t j = 0; j < padded_; ++j)
                    pairs_[i / 2 * padded_ + j] = grad_[i * padded_ + j]
                        | static_cast<uint32_t>(grad_[(i + 1) * padded_ + j]) << 16;
            return pairs_.data();
        }
    }

    void row_gradients(int64_t rows) {
        const int64_t depth = padded_ / kValues;
        const U* left = reinterpret_cast<const U*>(grad_.data());
        for (int64_t panel = 0; panel < width_ / kPanel; ++panel)
            for (int64_t i = 0; i < rows; i += kRows) {
                floats sums[kRows][kVectors];
                multiply(
                    left + i * depth, depth, 1,
                    static_cast<const U*>(pass_.scaled) + panel * depth * kPanel, depth, sums);
                store_sums(sums, grad_rows_.data() + i * width_ + panel * kPanel, width_);
            }
    }

    void add_seconds(int64_t phase, std::chrono::steady_clock::duration spent) {
        if (omp_get_thread_num() == omp_get_num_threads() - 1)
            pass_.seconds[phase] += std::chrono::duration<double>(spent).count();
    }

    const Pass& pass_;
    NegativesOfRows negatives_;
    double* sums_;
    double* total_;
    int64_t width_, padded_, blocks_ = 0;
    Buffer<P> rows_;
    Buffer<float> cos_;
    Buffer<P> grad_;
    Buffer<U> pairs_, panels_;
    Buffer<float> grad_rows_, grad_features_, of_row_;
};

// Each thread takes blocks that follow each other, so that none is passed from cache to cache.
template <typename W, typename P>
void one_pass(const Pass& pass, NegativesOfRows negatives) {
#pragma omp parallel num_threads(pass.threads)
    {
        // Fewer may come than were asked for: within another region, or by OMP_THREAD_LIMIT.
        const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        const int64_t rows = pass.update.rows, blocks = (rows + kBlock - 1) / kBlock;
        Block<W, P> block(
            pass, negatives, pass.sums + 4 * thread,
            pass.grad_features + thread * pass.padded * pass.update.width);
        for (int64_t b = blocks * thread / threads; b < blocks * (thread + 1) / threads; ++b) {
            const int64_t first = pass.only_products ? 0 : b * kBlock;
            block.step(first, std::min(kBlock, rows - first));
        }
        block.flush();
    }
}

}  // namespace
