#include "outsample/propagation.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>

#include "outsample/parallel.hpp"
#include "outsample/subnormals.hpp"

namespace outsample {

namespace {

// Leaves per block: enough to fill the vectors of the levels near the root, few enough to stay in the second cache.
constexpr std::int64_t block_cells = 128;

int padded(int size) { return (size + propagation_tile - 1) / propagation_tile * propagation_tile; }

template <class T>
struct PaddedStorage {
    explicit PaddedStorage(const Network& w) {
        const int columns = padded(w.hidden_size), output_rows = padded(w.output_size);
        auto matrix = [&](const float* from, int rows, int padded_rows, int width, int padded_width) {
            std::vector<T> result(static_cast<std::size_t>(padded_rows) * padded_width);
            for (int i = 0; from && i < rows; ++i)
                for (int j = 0; j < width; ++j) result[i * padded_width + j] = from[i * width + j];
            return result;
        };
        W_hh = matrix(w.W_hh, w.hidden_size, columns, w.hidden_size, columns);
        W_hi = matrix(w.W_hi, w.hidden_size, columns, 1, 1);
        W_oh = matrix(w.W_oh, w.output_size, output_rows, w.hidden_size, columns);
        b_h = matrix(w.b_h, w.hidden_size, columns, 1, 1);
        b_o = matrix(w.b_o, w.output_size, output_rows, 1, 1);
        W_hh_squared = W_hh;
        for (T& value : W_hh_squared) value *= value;
        view = {w.hidden_size, w.seq_len,   w.output_size, columns,    output_rows, w.b_h != nullptr,
                W_hh.data(),   W_hi.data(), W_oh.data(),   b_h.data(), b_o.data(),  W_hh_squared.data()};
    }
    PaddedStorage(const PaddedStorage&) = delete;

    std::vector<T> W_hh, W_hi, W_oh, b_h, b_o, W_hh_squared;
    PaddedNetwork<T> view;
};

float largest(const float* values, std::int64_t count) {
    float result = 0;
    for (std::int64_t i = 0; values && i < count; ++i) result = std::max(result, std::abs(values[i]));
    return result;
}

// Whether fourth powers of outputs stay far inside the range of float32.
bool moderate(const Network& w) {
    const std::int64_t d = w.hidden_size;
    const float inputs = largest(w.W_hi, d), outputs = largest(w.W_oh, w.output_size * d);
    return std::max({inputs, outputs, largest(w.W_hh, d * d), largest(w.b_h, d), largest(w.b_o, w.output_size)}) <=
               256 &&
           std::min(inputs, outputs) >= 1.0f / 256 && d <= 256;
}

template <class T>
void run(const Network& network, const CellPlan& plan, int order, double* value, double* variance,
         const StateMoments* states, int threads) {
    const PaddedStorage<T> weights(network);
    const std::int64_t n = network.seq_len, d = network.hidden_size;
    const auto& blocks = plan.blocks();
    parallel_for(static_cast<std::int64_t>(blocks.size()), 1, threads, [&](std::int64_t first, std::int64_t last) {
        const FlushSubnormals flush;  // probabilities of far labels
        int most = 0;
        for (std::int64_t b = first; b < last; ++b) most = std::max(most, blocks[b].count);
        const std::int64_t size = propagation_scratch(network.hidden_size, network.output_size, order, most);
        std::vector<T> scratch(size + 64 / sizeof(T));
        void* start = scratch.data();
        std::size_t space = scratch.size() * sizeof(T);
        T* aligned = static_cast<T*>(std::align(64, size * sizeof(T), start, space));
        std::vector<double> result(most), spread(most);
        for (std::int64_t b = first; b < last; ++b) {
            const CellPlan::Block& block = blocks[b];
            StateMoments moments{};
            if (states)
                moments = {states->mean + block.first * n * d,
                           states->covariance + block.first * n * (order == 2 ? d * d : d),
                           states->exponent + block.first * n};
            const StateMoments* wanted = states ? &moments : nullptr;
            if constexpr (sizeof(T) == 4) OUTSAMPLE_KERNEL(propagate_single)
            (weights.view, block.levels.data(), block.labels, order, result.data(), spread.data(), wanted, aligned);
            else OUTSAMPLE_KERNEL(propagate_double)(weights.view, block.levels.data(), block.labels, order,
                                                    result.data(), spread.data(), wanted, aligned);
            for (int leaf = 0; leaf < block.count; ++leaf) {
                const std::int64_t cell = plan.leaf_cell()[block.first + leaf];
                value[cell] = result[leaf];
                if (variance) variance[cell] = spread[leaf];
            }
        }
    });
}

}  // namespace

CellPlan::CellPlan(const int* symbols, std::int64_t cells, int seq_len, const double* mean, const double* variance,
                   std::int64_t symbol_count, const int* labels, bool share)
    : seq_len_(seq_len), has_labels_(labels != nullptr), leaf_cell_(cells) {
    if (cells < 1) throw std::invalid_argument("cells must be at least 1, got 0");
    for (std::int64_t s = 0; s < symbol_count; ++s) {
        if (!std::isfinite(mean[s]))
            throw std::invalid_argument("means must be finite, got " + std::to_string(mean[s]));
        if (!(variance[s] >= 0) || !std::isfinite(variance[s]))
            throw std::invalid_argument("variances must be finite and not negative, got " +
                                        std::to_string(variance[s]));
    }
    for (std::int64_t i = 0; i < cells * seq_len; ++i)
        if (symbols[i] < 0 || symbols[i] >= symbol_count)
            throw std::invalid_argument("symbols must be between 0 and " + std::to_string(symbol_count - 1) + ", got " +
                                        std::to_string(symbols[i]));
    for (std::int64_t i = 0; labels && i < cells; ++i)
        if (labels[i] < 0 || labels[i] >= seq_len)
            throw std::invalid_argument("labels must be between 0 and " + std::to_string(seq_len - 1) + ", got " +
                                        std::to_string(labels[i]));

    const std::int64_t n = seq_len;
    std::iota(leaf_cell_.begin(), leaf_cell_.end(), 0);
    if (share)
        std::stable_sort(leaf_cell_.begin(), leaf_cell_.end(), [&](std::int64_t a, std::int64_t b) {
            return std::lexicographical_compare(symbols + a * n, symbols + (a + 1) * n, symbols + b * n,
                                                symbols + (b + 1) * n);
        });

    // Offsets first: the arrays still move while they grow.
    struct Place {
        std::size_t nodes;
        int count;
    };
    std::vector<Place> places;
    std::vector<std::size_t> label_places;
    for (std::int64_t first = 0; first < cells; first += block_cells) {
        const int count = static_cast<int>(std::min(block_cells, cells - first));
        std::vector<int> node(count), before(count);  // of each leaf, in this level and the one before
        for (int t = 0; t < seq_len; ++t) {
            const std::size_t start = parents_.size();
            int nodes = 0;
            for (int leaf = 0; leaf < count; ++leaf) {
                const int symbol = symbols[leaf_cell_[first + leaf] * n + t];
                // Prefixes differ where they already did one step ago, or where this step's symbols do. The last step
                // keeps one node per leaf, equal or not.
                const bool same = share && leaf > 0 && t + 1 < seq_len && before[leaf] == before[leaf - 1] &&
                                  symbol == symbols[leaf_cell_[first + leaf - 1] * n + t];
                if (!same) {
                    parents_.push_back(before[leaf]);
                    mean_.push_back(mean[symbol]);
                    variance_.push_back(variance[symbol]);
                    ++nodes;
                }
                node[leaf] = nodes - 1;
            }
            for (int pad = 0; pad < cell_padding; ++pad) {
                parents_.push_back(parents_.back());
                mean_.push_back(mean_.back());
                variance_.push_back(variance_.back());
            }
            places.push_back({start, nodes});
            nodes_ += nodes;
            if (t + 1 < seq_len) inner_nodes_ += nodes;
            before = node;
        }
        label_places.push_back(labels_.size());
        for (int leaf = 0; labels && leaf < count + cell_padding; ++leaf)
            labels_.push_back(labels[leaf_cell_[first + std::min(leaf, count - 1)]]);
    }
    for (std::size_t b = 0; b < label_places.size(); ++b) {
        Block block;
        for (int t = 0; t < seq_len; ++t) {
            const Place& place = places[b * n + t];
            block.levels.push_back({place.count, parents_.data() + place.nodes, mean_.data() + place.nodes,
                                    variance_.data() + place.nodes});
        }
        block.labels = labels ? labels_.data() + label_places[b] : nullptr;
        block.first = static_cast<std::int64_t>(b) * block_cells;
        block.count = block.levels.back().count;
        blocks_.push_back(std::move(block));
    }
}

std::int64_t propagation_scratch(int d, int outputs, int order, int cells) {
    const std::int64_t columns = padded(d), m = outputs, pairs = m * (m + 1) / 2;
    const std::int64_t entries = order == 2 ? std::int64_t(d) * (d + 1) / 2 : d;
    // Vectors of at most cell_padding numbers: some rows of a product; terms and inverse deviation of every unit; the
    // law of the outputs with one row apart, and as it is read out.
    const std::int64_t vectors =
        propagation_tile * columns + (propagation_terms + 1) * d + (2 * m + pairs) + (m + pairs);
    return vectors * cell_padding + 2 * (d + entries + 1) * (cells + cell_padding);
}

void propagate(const Network& network, const CellPlan& plan, int order, bool single, double* value, double* variance,
               const StateMoments* states, int threads) {
    if (order != 1 && order != 2) throw std::invalid_argument("order must be 1 or 2, got " + std::to_string(order));
    if (plan.seq_len() != network.seq_len)
        throw std::invalid_argument("plan is for seq_len " + std::to_string(plan.seq_len()) + ", got a network with " +
                                    std::to_string(network.seq_len));
    if (plan.has_labels() && network.output_size != network.seq_len)
        throw std::invalid_argument("plan has labels, so the network must have one output per position, got " +
                                    std::to_string(network.output_size));
    if (!plan.has_labels() && network.output_size != 1 && !states)
        throw std::invalid_argument("plan has no labels, so the network must have one output, got " +
                                    std::to_string(network.output_size));
    if (single && moderate(network))
        run<float>(network, plan, order, value, variance, states, threads);
    else
        run<double>(network, plan, order, value, variance, states, threads);
}

}  // namespace outsample
