// Gaussian moment propagation: the law of the hidden state as a normal distribution, for many components at once.
//
// A component (a cell) is a sequence of independent inputs, each with its mean and variance, and the label that is
// right for it. Cells with a common prefix share the work of that prefix: they are the leaves of a forest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "outsample/isa.hpp"
#include "outsample/network.hpp"

namespace outsample {

// One step of a block of cells. Arrays are padded by cell_padding copies of their last entry, so that a kernel may
// fill its vectors without looking at the count.
constexpr int cell_padding = 16;
struct CellLevel {
    int count;               // nodes: distinct prefixes that end with this step
    const int* parent;       // number of the prefix without this step in the level before: nondecreasing, none left out
    const double* mean;      // of this step's input
    const double* variance;  // of this step's input
};

// A forest of cells, sorted and cut into blocks. Immutable: it does not depend on the weights.
class CellPlan {
  public:
    // symbols: cells x seq_len numbers of entries in mean and variance; labels: cells, or null for the median task.
    // share = false gives every cell nodes of its own, in the order given.
    CellPlan(const int* symbols, std::int64_t cells, int seq_len, const double* mean, const double* variance,
             std::int64_t symbol_count, const int* labels, bool share);

    struct Block {
        std::vector<CellLevel> levels;
        const int* labels;  // of the leaves, padded, or null
        std::int64_t first;
        int count;
    };

    int seq_len() const { return seq_len_; }
    std::int64_t cells() const { return static_cast<std::int64_t>(leaf_cell_.size()); }
    bool has_labels() const { return has_labels_; }
    const std::vector<Block>& blocks() const { return blocks_; }
    // Leaf i of the sorted order is this cell of the caller's.
    const std::int64_t* leaf_cell() const { return leaf_cell_.data(); }
    // Nodes over all steps (activations made) and nodes with a step to follow (products W S W' made).
    std::int64_t nodes() const { return nodes_; }
    std::int64_t inner_nodes() const { return inner_nodes_; }

  private:
    int seq_len_;
    bool has_labels_;
    std::vector<std::int64_t> leaf_cell_;
    std::vector<int> parents_, labels_;
    std::vector<double> mean_, variance_;
    std::vector<Block> blocks_;
    std::int64_t nodes_ = 0, inner_nodes_ = 0;
};

// Moments of the hidden state after every step, in the order of the cells: mean (cells, n, d); covariance
// (cells, n, d, d), or variances (cells, n, d) for order 1; exponent (cells, n): the state is 2^exponent times what
// these moments describe.
struct StateMoments {
    double* mean;
    double* covariance;
    int* exponent;
};

// Results per cell. With labels `value` is the probability that the label's logit wins and `variance` is left alone;
// without, they are the mean and the variance of the only output. `states` may be null and needs a plan that shares
// nothing. order: 1 propagates variances, 2 covariances. single: float32 lanes in place of float64.
void propagate(const Network& network, const CellPlan& plan, int order, bool single, double* value, double* variance,
               const StateMoments* states, int threads);

// The weights as kernels read them: columns and the rows of matrices padded with zeros to multiples of `tile`.
constexpr int propagation_tile = 4;
// Terms per unit of the series for covariances.
constexpr int propagation_terms = 6;
template <class T>
struct PaddedNetwork {
    int d, n, outputs, columns, output_rows;
    bool has_hidden_bias;
    const T *W_hh, *W_hi, *W_oh, *b_h, *b_o;  // biases are zeros when absent
    const T* W_hh_squared;
};

OUTSAMPLE_DECLARE_KERNEL(void, propagate_single,
                         (const PaddedNetwork<float>& network, const CellLevel* levels, const int* labels, int order,
                          double* value, double* variance, const StateMoments* states, float* scratch))
OUTSAMPLE_DECLARE_KERNEL(void, propagate_double,
                         (const PaddedNetwork<double>& network, const CellLevel* levels, const int* labels, int order,
                          double* value, double* variance, const StateMoments* states, double* scratch))

// Numbers of scratch space that a kernel needs for a block of `cells` leaves, for any instruction set.
std::int64_t propagation_scratch(int d, int outputs, int order, int cells);

}  // namespace outsample
