// The head's work on a CPU, built on first use by compiled.py: the element-wise kernels of a tile,
// and a whole step where the processor has the instructions that its products are written for.

#include <omp.h>

#include "elementwise.h"

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#define SF2_ONE_PASS
#include "one_pass.h"
#endif

namespace {

// Each thread does rows that follow each other.
template <typename F>
void share(int64_t rows, F work) {
#pragma omp parallel
    {
        const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        work(rows * thread / threads, rows * (thread + 1) / threads);
    }
}

template <typename W, typename G>
void update_of_tile(const Update& a) {
    share(a.rows, [&](int64_t from, int64_t to) { update<W, G>(a, from, to, true); });
}

}  // namespace

extern "C" {

void sf2_negatives(const Negatives* a, int is_bfloat16, int t, int full) {
    const auto of_rows = is_bfloat16 ? choose_negatives<bfloat16, bfloat16>(t, full)
                                     : choose_negatives<float, float>(t, full);
    share(a->rows, [&](int64_t from, int64_t to) { of_rows(*a, from, to); });
}

void sf2_update(const Update* a, int weight_is_bfloat16, int grad_is_bfloat16) {
    if (weight_is_bfloat16)
        grad_is_bfloat16 ? update_of_tile<bfloat16, bfloat16>(*a)
                         : update_of_tile<bfloat16, float>(*a);
    else
        grad_is_bfloat16 ? update_of_tile<float, bfloat16>(*a) : update_of_tile<float, float>(*a);
}

// The columns of a panel in sf2_one_pass; 0 where it does not know products of that type.
int sf2_panel([[maybe_unused]] int is_bfloat16) {
#if defined(__AVX512BF16__)
    return kPanel;
#elif defined(SF2_ONE_PASS)
    return is_bfloat16 ? 0 : kPanel;
#else
    return 0;
#endif
}

#if defined(SF2_ONE_PASS)
// The rows that a thread works on at a time.
int sf2_block_rows() { return kBlock; }

void sf2_one_pass(
    const Pass* pass, int rows_are_bfloat16, [[maybe_unused]] int products_are_bfloat16, int t,
    int full) {
#if defined(__AVX512BF16__)
    if (products_are_bfloat16) {
        const auto negatives = choose_negatives<float, bfloat16>(t, full);
        rows_are_bfloat16 ? one_pass<bfloat16, bfloat16>(*pass, negatives)
                          : one_pass<float, bfloat16>(*pass, negatives);
        return;
    }
#endif
    const auto negatives = choose_negatives<float, float>(t, full);
    rows_are_bfloat16 ? one_pass<bfloat16, float>(*pass, negatives)
                      : one_pass<float, float>(*pass, negatives);
}
#endif
}
