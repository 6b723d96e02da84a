// Empirical cubature: margins of networks at fixed input points that share prefixes, their derivatives with respect to
// the points, and the fused estimate (margins, features, readout).
//
// The points are the leaves of a forest. Level t holds the distinct prefixes of t + 1 inputs, so the state after a
// shared prefix is computed once. The same kernels run in two arrangements: one network with points in lanes, and many
// networks in lanes with one point after the other.
#pragma once

#include <cstdint>
#include <vector>

#include "outsample/aligned.hpp"
#include "outsample/isa.hpp"
#include "outsample/network.hpp"

namespace outsample {

// What the kernels walk: `nodes` of one arrangement (a node is one prefix, or one lane group of prefixes). Children of
// a node are consecutive and levels are sorted by parent, so that a chunk of roots and all that hangs from them is a
// range on every level.
struct ForestView {
    int hidden_size;
    int seq_len;             // levels
    int outputs;             // logits; 1: the margin is the output itself
    const int* level_begin;  // seq_len + 1: first node of each level
    const int* parent;       // per node: index within the level above, 0 for roots
    const int* source;       // points in lanes: per lane, where its prefix stands, counted from the first lane of group
                             // `parent` on; lanes_stay first where that is its own place; null for networks in lanes
    const float* x;          // per node: the input, or one per lane
    const int* target;       // per leaf (index within the last level): right answer, or one per lane
    int chunks;              // ranges of roots that are walked one after the other
    const int* chunk_begin;  // (chunks + 1) x seq_len: first node, within its level, of each chunk
    int max_chunk_level;     // most nodes of one level in one chunk
    int max_chunk_nodes;     // most nodes in one chunk
};

constexpr int lanes_stay = -1;

// The points, owned, in plain order: level by level.
class Forest {
  public:
    // Throws std::invalid_argument unless parents are sorted, in range and leave no prefix without a leaf.
    Forest(std::vector<int> level_sizes, std::vector<int> parent, std::vector<float> x, std::vector<int> target);

    int seq_len() const { return static_cast<int>(level_sizes_.size()); }
    int nodes() const { return static_cast<int>(parent_.size()); }
    int leaves() const { return level_sizes_.back(); }
    const std::vector<int>& target() const { return target_; }

    // Multiply-adds of one network's margins: shared prefixes once, products with a zero state not at all.
    long long multiply_adds(int hidden_size, int outputs) const;

    // Networks in lanes: chunks of at most about `leaves_per_chunk` leaves.
    ForestView networks_in_lanes(int hidden_size, int outputs) const;

    const std::vector<int>& level_begin() const { return level_begin_; }
    const std::vector<int>& parent() const { return parent_; }
    const std::vector<float>& x() const { return x_; }

  private:
    std::vector<int> level_sizes_, level_begin_, parent_, target_, chunk_begin_;
    std::vector<float> x_;
    int max_chunk_level_ = 0, max_chunk_nodes_ = 0;
};

// Features of a leaf. With z the margin times its scale:
//   3 features: tanh(0.5 z), tanh(1.5 z), tanh(4.5 z);
//   5 features: besides, tanh of the right answer's logit less `shift`, and tanh of how far that logit is above the
//               second-best other one, each times a scale of its own;
//   7 features: besides, the squares of the first two.
// Powers, of the output less `shift` times its scale (one output, mean squared error), are z, z^2, tanh(z).
enum class FeatureKind { tanh, powers };
struct FeatureView {
    FeatureKind kind;
    int count;                   // 3, 5 or 7; powers: 3
    int signals;                 // scales per leaf: 1 for 3 features, else 3
    const float* inverse_scale;  // signals per leaf (and lane)
    const float* shift;          // per leaf (and lane); of 3 tanh features, null
};

// The readout: value = intercept + sum of linear * feature + sum over units of out * gelu(bias + sum of hidden *
// feature), where gelu(a) = a (1 + tanh(0.851 a)) / 2. In a relative readout (3 tanh features) z = m * inverse_scale /
// (mean over leaves of |m| * inverse_scale) instead, so that the scale of a network's logits does not matter.
struct ReadoutView {
    FeatureView features;
    int units;             // hidden units, 0: linear
    const float* weights;  // features x (1 + units) per leaf (and lane): linear, hidden; 0 on padding lanes
    const float* bias;     // units
    const float* out;      // units
    int relative;          // leaves that the mean of |m| * inverse_scale is over; 0: not relative
};

constexpr int cubature_max_features = 7;
constexpr int cubature_max_lanes = 16;
constexpr int cubature_held_leaves = 32;

// Signed sums of a few weights each: what tells a noisy copy of a network from other networks, and how much noise it
// has. The first half of the groups is of small weights, the second of large ones, so that noise in proportion to the
// weights and noise of one size can be told apart.
struct Sketch {
    std::vector<int> index;     // groups x size: which weights
    std::vector<float> sign;    // groups x size
    std::vector<double> sum;    // per group: of the trained network
    std::vector<double> scale;  // per group: root of the sum of its squared weights
};

// The standard error as a function of the noise: root of the mean of the laws' mean squared errors, each in proportion
// to how well the law (all equally likely at first) explains the noise that the sketch measures. The logarithms of
// both measures are taken for normal under a law, and for as far out as anything in calibration if they are further.
// Beyond the calibration's noise the error grows with its square, which is a warning rather than a measurement.
struct ErrorModel {
    struct Law {
        double small, large;         // means of the logarithms
        double across, mixed, down;  // (across s, mixed s + down l) is standard normal, s and l centred logarithms
        double squared_error;
        double log_density;  // log(across * down)
    };
    struct Range {
        double least, most;
    };
    std::vector<Law> laws;
    Range small, large, mean;  // of the logarithms

    double operator()(double small_noise, double large_noise) const;
};

// Both for the kernel that takes many networks, which computes in float32.
struct SketchView {
    int groups, size;
    const int* index;            // groups x size
    const float* sign;           // groups x size
    const float* sum;            // groups
    const float* inverse_scale;  // groups
    const ErrorModel* error;
};

struct CubatureResult {
    double value;
    double standard_error;
    double small, large;  // mean over the groups of each half of ((sum - trained network's) / scale)^2
};

// Points with a readout, owned, arranged for every vector width.
class Cubature {
  public:
    struct Readout {
        int features = 3;
        std::vector<float> inverse_scale, linear, hidden, bias, out;
        std::vector<float> shift;  // per leaf, or empty: with one output and with more than 3 features
        double intercept = 0;
        bool relative = false;  // not with a shift
        Sketch sketch;
        ErrorModel error;
    };
    // A sketch has an even number of groups.
    // linear: leaves x features; hidden: leaves x features x units; bias and out: units.
    Cubature(Forest forest, int hidden_size, int outputs, Readout readout);

    int hidden_size() const { return hidden_size_; }
    int outputs() const { return outputs_; }
    int seq_len() const { return forest_.seq_len(); }
    const Forest& forest() const { return forest_; }

    // Multiply-adds of one estimate, readout and sketch included.
    long long multiply_adds() const;

    // weights: W_hh, W_hi, W_oh one after the other. Points in lanes.
    CubatureResult evaluate(const float* weights) const;

    // The sketch alone: value and error are not set.
    CubatureResult noise(const float* weights) const;

    // What evaluate will state, by the sketch alone.
    double standard_error(const float* weights) const;

    // Networks in lanes if points would leave many lanes empty; the same values up to the order of additions.
    void evaluate_many(const float* const* weights, std::int64_t count, CubatureResult* results, int threads) const;

  private:
    struct Lanes {  // points in lanes, for one vector width
        int lanes = 0;
        std::vector<int> level_begin, parent, chunk_begin;
        AlignedVector<int> source, target;
        AlignedVector<float> x, inverse_scale, weights, shift;
        int max_level = 0;
    };
    Lanes arrange(int lanes) const;
    const Lanes& arranged() const;  // for the instruction set in use
    int units() const;
    int signals() const { return readout_.features == 3 ? 1 : 3; }
    ReadoutView readout_view(const float* inverse_scale, const float* weights, const float* shift) const;

    Forest forest_;
    int hidden_size_, outputs_;
    Readout readout_;
    std::vector<float> weights_;         // of the readout, as in ReadoutView
    std::vector<double> inverse_scale_;  // of the sketch
    std::vector<float> sketch_sum_, sketch_inverse_scale_;
    std::vector<Lanes> arranged_;
};

// Margins at all leaves of many networks: target's logit minus the best other one; of one output, the output. With
// `all`, three rows per leaf: margin, target's logit, and that minus the second-best other one. signals: rows x count.
void point_signals(const Forest& forest, int hidden_size, int outputs, const float* const* weights, std::int64_t count,
                   bool all, float* signals, int threads);

// (feature - mean) * inverse_sd at all leaves of many networks. mean, inverse_sd: leaves x features; result: leaves x
// features x count.
void point_features(const Forest& forest, int hidden_size, int outputs, const FeatureView& features, const float* mean,
                    const float* inverse_sd, const float* const* weights, std::int64_t count, float* result,
                    int threads);

// Derivative of the sum over leaves and features of coefficient * feature with respect to the input at every node, per
// network. coefficients: leaves x features x count, or if `shared` leaves x features; tangents: nodes x count.
void point_tangents(const Forest& forest, int hidden_size, int outputs, const FeatureView& features,
                    const float* const* weights, std::int64_t count, const float* coefficients, bool shared,
                    float* tangents, int threads);

// Floats of scratch space for any kernel below; a relative readout needs a vector per leaf more.
std::int64_t cubature_scratch(const ForestView& forest);

// Kernels. Packed weights hold one vector (a lane per network) per weight. Results of readouts are
// values without the intercept: one, or one per lane, followed by room for sums.
OUTSAMPLE_DECLARE_KERNEL(int, cubature_lanes, ())
OUTSAMPLE_DECLARE_KERNEL(void, cubature_pack, (const float* const* weights, int count, int size, float* packed))
OUTSAMPLE_DECLARE_KERNEL(void, cubature_signals,
                         (const ForestView& forest, const float* packed, float* scratch, float* out,
                          std::int64_t stride, int filled, bool all))
OUTSAMPLE_DECLARE_KERNEL(void, cubature_features,
                         (const ForestView& forest, const FeatureView& view, const float* mean, const float* inverse_sd,
                          const float* packed, float* scratch, float* out, std::int64_t stride, int filled))
OUTSAMPLE_DECLARE_KERNEL(void, cubature_tangents,
                         (const ForestView& forest, const FeatureView& view, const float* packed, float* scratch,
                          const float* coefficients, bool shared, float* tangents, std::int64_t stride, int filled))
OUTSAMPLE_DECLARE_KERNEL(void, cubature_readout_one,
                         (const ForestView& forest, const ReadoutView& readout, const float* weights, float* scratch,
                          double* result))
OUTSAMPLE_DECLARE_KERNEL(void, cubature_readout_many,
                         (const ForestView& forest, const ReadoutView& readout, const float* packed, float* scratch,
                          double* result))
// Standard errors, and noise of small and large weights: one per lane each, one after the other.
OUTSAMPLE_DECLARE_KERNEL(void, cubature_errors, (const SketchView& sketch, const float* packed, float* results))

}  // namespace outsample
