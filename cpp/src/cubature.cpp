#include "outsample/cubature.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

#include "outsample/parallel.hpp"
#include "scratch.hpp"

namespace outsample {

namespace {

constexpr int tile_nodes = 4;  // as in the kernels

// Cuts a forest at its roots into chunks of about `wanted` leaves.
struct Chunks {
    std::vector<int> begin;
    int count = 0, max_level = 0, max_nodes = 0;
};

Chunks cut(const std::vector<int>& level_begin, const std::vector<int>& parent, int wanted) {
    const int n = static_cast<int>(level_begin.size()) - 1;
    const int roots = level_begin[1];
    Chunks chunks;
    std::vector<int> at(n, 0), next(n, 0);
    chunks.begin.insert(chunks.begin.end(), at.begin(), at.end());
    for (int root = 0; root < roots; ++root) {
        next[0] = root + 1;
        for (int t = 1; t < n; ++t) {
            const int size = level_begin[t + 1] - level_begin[t];
            while (next[t] < size && parent[level_begin[t] + next[t]] < next[t - 1]) ++next[t];
        }
        if (next[n - 1] - at[n - 1] < wanted && root + 1 < roots) continue;
        int nodes = 0;
        for (int t = 0; t < n; ++t) {
            chunks.max_level = std::max(chunks.max_level, next[t] - at[t]);
            nodes += next[t] - at[t];
        }
        chunks.max_nodes = std::max(chunks.max_nodes, nodes);
        at = next;
        chunks.begin.insert(chunks.begin.end(), at.begin(), at.end());
        ++chunks.count;
    }
    return chunks;
}

std::int64_t weight_count(int hidden_size, int outputs) {
    return static_cast<std::int64_t>(hidden_size) * (hidden_size + 1 + outputs);
}

// Runs work(first, filled, packed, scratch) for each lane group of networks.
template <class Work>
void for_lane_groups(const ForestView& forest, const float* const* weights, std::int64_t count, std::int64_t floats,
                     int threads, Work work) {
    const int lanes = OUTSAMPLE_KERNEL(cubature_lanes)();
    const int size = static_cast<int>(weight_count(forest.hidden_size, forest.outputs));
    parallel_for(count, lanes, threads, [&](std::int64_t first, std::int64_t last) {
        // Kept between calls: an allocation would cost as much as the smallest rules.
        thread_local Scratch space;
        float* packed = space.floats(static_cast<std::int64_t>(size) * lanes + floats);
        float* scratch = packed + static_cast<std::int64_t>(size) * lanes;
        for (std::int64_t i = first; i < last; i += lanes) {
            const int filled = static_cast<int>(std::min<std::int64_t>(lanes, last - i));
            OUTSAMPLE_KERNEL(cubature_pack)(weights + i, filled, size, packed);
            work(i, filled, packed, scratch);
        }
    });
}

// Scratch space of a readout: a relative one keeps the margins of all leaves.
std::int64_t readout_scratch(const ForestView& forest, const ReadoutView& readout) {
    const int n = forest.seq_len;
    const std::int64_t leaves = forest.level_begin[n] - forest.level_begin[n - 1];
    return cubature_scratch(forest) + (readout.relative ? leaves * cubature_max_lanes : 0);
}

}  // namespace

std::int64_t cubature_scratch(const ForestView& forest) {
    const std::int64_t d = forest.hidden_size;
    const std::int64_t vectors = cubature_max_features * cubature_held_leaves + tile_nodes * (forest.outputs + 2 * d) +
                                 (4 * static_cast<std::int64_t>(forest.max_chunk_level) + 2) * d +
                                 static_cast<std::int64_t>(forest.max_chunk_nodes) * d;
    return vectors * cubature_max_lanes;
}

Forest::Forest(std::vector<int> level_sizes, std::vector<int> parent, std::vector<float> x, std::vector<int> target)
    : level_sizes_(std::move(level_sizes)), parent_(std::move(parent)), target_(std::move(target)), x_(std::move(x)) {
    if (level_sizes_.empty()) throw std::invalid_argument("level_sizes must not be empty");
    level_begin_.push_back(0);
    for (int size : level_sizes_) {
        if (size < 1) throw std::invalid_argument("level_sizes must be positive, got " + std::to_string(size));
        level_begin_.push_back(level_begin_.back() + size);
    }
    const std::size_t nodes = level_begin_.back();
    if (parent_.size() != nodes || x_.size() != nodes)
        throw std::invalid_argument("parent and x must have one entry per node, " + std::to_string(nodes) + ", got " +
                                    std::to_string(parent_.size()) + " and " + std::to_string(x_.size()));
    if (target_.size() != static_cast<std::size_t>(leaves()))
        throw std::invalid_argument("target must have one entry per leaf, " + std::to_string(leaves()) + ", got " +
                                    std::to_string(target_.size()));
    for (int t = 1; t < seq_len(); ++t) {
        const int* p = parent_.data() + level_begin_[t];
        const int size = level_sizes_[t], above = level_sizes_[t - 1];
        bool good = p[0] == 0 && p[size - 1] == above - 1;
        for (int i = 1; i < size && good; ++i) good = p[i] == p[i - 1] || p[i] == p[i - 1] + 1;
        if (!good)
            throw std::invalid_argument("parent must be sorted and name every node of the level above, level " +
                                        std::to_string(t) + " does not");
    }
    const Chunks chunks = cut(level_begin_, parent_, 16);
    chunk_begin_ = chunks.begin;
    max_chunk_level_ = chunks.max_level;
    max_chunk_nodes_ = chunks.max_nodes;
}

long long Forest::multiply_adds(int hidden_size, int outputs) const {
    const long long d = hidden_size;
    long long total = leaves() * d * outputs;
    for (int t = 0; t < seq_len(); ++t) {
        total += level_sizes_[t] * d;
        if (t + 1 < seq_len()) total += level_sizes_[t] * d * d;
    }
    return total;
}

ForestView Forest::networks_in_lanes(int hidden_size, int outputs) const {
    return {hidden_size,         seq_len(),        outputs,
            level_begin_.data(), parent_.data(),   nullptr,
            x_.data(),           target_.data(),   static_cast<int>(chunk_begin_.size()) / seq_len() - 1,
            chunk_begin_.data(), max_chunk_level_, max_chunk_nodes_};
}

Cubature::Cubature(Forest forest, int hidden_size, int outputs, Readout readout)
    : forest_(std::move(forest)), hidden_size_(hidden_size), outputs_(outputs), readout_(std::move(readout)) {
    const std::size_t leaves = forest_.leaves(), features = leaves * readout_.features;
    const std::size_t units = readout_.bias.size();
    auto require = [](const char* name, std::size_t got, std::size_t wanted) {
        if (got != wanted)
            throw std::invalid_argument(std::string(name) + " must have " + std::to_string(wanted) + " entries, got " +
                                        std::to_string(got));
    };
    if (hidden_size < 1) throw std::invalid_argument("hidden_size must be positive");
    if (outputs < 1) throw std::invalid_argument("outputs must be positive");
    const bool rich = readout_.features != 3;
    if (rich && readout_.features != 5 && readout_.features != 7)
        throw std::invalid_argument("features must be 3, 5 or 7 per point, got " + std::to_string(readout_.features));
    if (rich && outputs < 3) throw std::invalid_argument("more than 3 features per point need 3 outputs or more");
    require("inverse_scale", readout_.inverse_scale.size(), leaves * signals());
    require("linear", readout_.linear.size(), features);
    require("hidden", readout_.hidden.size(), features * units);
    require("out", readout_.out.size(), units);
    if (readout_.relative && !readout_.shift.empty())
        throw std::invalid_argument("relative must be false where there is a shift");
    require("shift", readout_.shift.size(), rich || outputs == 1 ? leaves : 0);
    const Sketch& sketch = readout_.sketch;
    const std::size_t groups = sketch.sum.size();
    if (groups % 2) throw std::invalid_argument("sketch must have an even number of groups");
    require("scale", sketch.scale.size(), groups);
    require("sign", sketch.sign.size(), sketch.index.size());
    if (groups ? sketch.index.size() % groups != 0 : !sketch.index.empty())
        throw std::invalid_argument("index must have the same number of weights for each group of the sketch");
    for (int i : sketch.index)
        if (i < 0 || i >= weight_count(hidden_size, outputs))
            throw std::invalid_argument("index must name weights of the network, got " + std::to_string(i));
    for (double scale : sketch.scale)
        if (!(scale > 0)) throw std::invalid_argument("scale must be positive");
    for (double scale : sketch.scale) inverse_scale_.push_back(1 / scale);
    sketch_sum_.assign(sketch.sum.begin(), sketch.sum.end());
    sketch_inverse_scale_.assign(inverse_scale_.begin(), inverse_scale_.end());
    for (int target : forest_.target())
        if (target < 0 || target >= outputs)
            throw std::invalid_argument("target must be between 0 and " + std::to_string(outputs - 1) + ", got " +
                                        std::to_string(target));
    readout_.bias.resize((units + cubature_max_lanes - 1) / cubature_max_lanes * cubature_max_lanes);
    readout_.out.resize(readout_.bias.size());
    for (std::size_t feature = 0; feature < features; ++feature) {
        weights_.push_back(readout_.linear[feature]);
        for (std::size_t u = 0; u < units; ++u) weights_.push_back(readout_.hidden[feature * units + u]);
    }
    for (int lanes : {4, 8, 16}) arranged_.push_back(arrange(lanes));
}

int Cubature::units() const {
    return static_cast<int>(readout_.hidden.size()) / (forest_.leaves() * readout_.features);
}

// Every level fills its lane groups one after the other. Prefixes are sorted by the one that they extend, so those that
// a group extends stand in two neighbouring groups at most.
Cubature::Lanes Cubature::arrange(int lanes) const {
    const int n = forest_.seq_len(), rows = readout_.features * (1 + units());
    Lanes result;
    result.lanes = lanes;
    result.level_begin.push_back(0);
    result.chunk_begin.assign(n, 0);
    for (int t = 0; t < n; ++t) {
        const int first = forest_.level_begin()[t], size = forest_.level_begin()[t + 1] - first;
        const int groups = (size + lanes - 1) / lanes;
        for (int g = 0; g < groups; ++g) {
            const int* parent = forest_.parent().data() + first;
            const int above = parent[g * lanes] / lanes;
            result.parent.push_back(above);
            bool stay = above == g;
            for (int lane = 0; lane < lanes; ++lane) {
                const int i = g * lanes + lane;
                result.x.push_back(i < size ? forest_.x()[first + i] : 0.0f);
                result.source.push_back(i < size ? parent[i] - above * lanes : 0);
                stay = stay && (i >= size || parent[i] == i);
            }
            if (stay || t == 0) result.source[result.source.size() - lanes] = lanes_stay;
        }
        result.level_begin.push_back(result.level_begin.back() + groups);
        result.chunk_begin.push_back(groups);
        result.max_level = std::max(result.max_level, groups);
    }
    for (int g = 0; g < result.chunk_begin.back(); ++g) {
        auto gather = [&](auto& to, const auto& from, int per_leaf, int k) {
            for (int lane = 0; lane < lanes; ++lane) {
                const int i = g * lanes + lane;
                to.push_back(i < forest_.leaves() ? from[static_cast<std::size_t>(i) * per_leaf + k] : 0);
            }
        };
        gather(result.target, forest_.target(), 1, 0);
        for (int k = 0; k < signals(); ++k) gather(result.inverse_scale, readout_.inverse_scale, signals(), k);
        if (!readout_.shift.empty()) gather(result.shift, readout_.shift, 1, 0);
        for (int k = 0; k < rows; ++k) gather(result.weights, weights_, rows, k);
    }
    return result;
}

long long Cubature::multiply_adds() const {
    const long long features = static_cast<long long>(forest_.leaves()) * readout_.features;
    // Margins are divided by their mean, or two features are squares.
    const long long more = readout_.relative || readout_.features == 7 ? 2 * forest_.leaves() : 0;
    return forest_.multiply_adds(hidden_size_, outputs_) + features * (1 + units()) + units() + more +
           static_cast<long long>(readout_.sketch.index.size() + 2 * readout_.sketch.sum.size());
}

double ErrorModel::operator()(double small_noise, double large_noise) const {
    auto log_of = [](double x) { return std::log(std::max(x, 1e-300)); };
    auto within = [](const Range& range, double x) { return std::min(std::max(x, range.least), range.most); };
    const double s = within(small, log_of(small_noise)), l = within(large, log_of(large_noise));
    // Sums of the laws' likelihoods relative to the best one's so far.
    double best = -std::numeric_limits<double>::infinity(), total = 0, squared_error = 0;
    for (const Law& law : laws) {
        const double u = law.across * (s - law.small);
        const double v = law.mixed * (s - law.small) + law.down * (l - law.large);
        const double log_likelihood = law.log_density - (u * u + v * v) / 2;
        if (log_likelihood > best) {
            const double shrunk = std::exp(best - log_likelihood);
            total *= shrunk;
            squared_error *= shrunk;
            best = log_likelihood;
        }
        const double likelihood = std::exp(log_likelihood - best);
        total += likelihood;
        squared_error += likelihood * law.squared_error;
    }
    const double beyond = log_of((small_noise + large_noise) / 2) - mean.most;
    return std::sqrt(squared_error / total) * std::exp(std::max(0.0, beyond));
}

const Cubature::Lanes& Cubature::arranged() const {
    const int lanes = OUTSAMPLE_KERNEL(cubature_lanes)();
    return *std::find_if(arranged_.begin(), arranged_.end(), [&](const Lanes& l) { return l.lanes == lanes; });
}

ReadoutView Cubature::readout_view(const float* inverse_scale, const float* weights, const float* shift) const {
    const FeatureView features{outputs_ == 1 ? FeatureKind::powers : FeatureKind::tanh, readout_.features, signals(),
                               inverse_scale, shift};
    return {features,
            units(),
            weights,
            readout_.bias.data(),
            readout_.out.data(),
            readout_.relative ? forest_.leaves() : 0};
}

CubatureResult Cubature::evaluate(const float* weights) const {
    const Lanes& a = arranged();
    const ForestView view{
        hidden_size_, forest_.seq_len(), outputs_, a.level_begin.data(), a.parent.data(), a.source.data(),
        a.x.data(),   a.target.data(),   1,        a.chunk_begin.data(), a.max_level,     0};
    const ReadoutView readout = readout_view(a.inverse_scale.data(), a.weights.data(), a.shift.data());
    thread_local Scratch space;
    thread_local std::vector<double> sums;
    const std::size_t doubles = 1 + (1 + units()) * cubature_max_lanes;
    if (sums.size() < doubles) sums.resize(doubles);
    float* scratch = space.floats(readout_scratch(view, readout));
    OUTSAMPLE_KERNEL(cubature_readout_one)(view, readout, weights, scratch, sums.data());
    CubatureResult result = noise(weights);
    result.value = sums[0] + readout_.intercept;
    result.standard_error = readout_.error(result.small, result.large);
    return result;
}

CubatureResult Cubature::noise(const float* weights) const {
    const Sketch& sketch = readout_.sketch;
    const std::size_t groups = sketch.sum.size(), half = groups / 2;
    double levels[2] = {0, 0};
    const int* index = sketch.index.data();
    const float* sign = sketch.sign.data();
    for (std::size_t g = 0; g < groups; ++g) {
        double sum = -sketch.sum[g];
        for (std::size_t k = 0; k < sketch.index.size() / groups; ++k) sum += *sign++ * weights[*index++];
        sum *= inverse_scale_[g];
        levels[g >= half] += sum * sum;
    }
    const double count = static_cast<double>(std::max<std::size_t>(half, 1));
    return {0.0, 0.0, levels[0] / count, levels[1] / count};
}

double Cubature::standard_error(const float* weights) const {
    const CubatureResult found = noise(weights);
    return readout_.error(found.small, found.large);
}

void Cubature::evaluate_many(const float* const* weights, std::int64_t count, CubatureResult* results,
                             int threads) const {
    // Where points fill the lanes, one network after the other is as fast: its weights stay in the cache.
    if (static_cast<double>(forest_.nodes()) >= 0.95 * static_cast<double>(arranged().x.size())) {
        parallel_for(count, 1, threads, [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t i = first; i < last; ++i) results[i] = evaluate(weights[i]);
        });
        return;
    }
    const ForestView view = forest_.networks_in_lanes(hidden_size_, outputs_);
    const ReadoutView readout = readout_view(readout_.inverse_scale.data(), weights_.data(), readout_.shift.data());
    const SketchView sketch{
        static_cast<int>(readout_.sketch.sum.size()),
        static_cast<int>(readout_.sketch.index.size() / std::max<std::size_t>(1, readout_.sketch.sum.size())),
        readout_.sketch.index.data(),
        readout_.sketch.sign.data(),
        sketch_sum_.data(),
        sketch_inverse_scale_.data(),
        &readout_.error};
    const int lanes = OUTSAMPLE_KERNEL(cubature_lanes)();
    for_lane_groups(view, weights, count, readout_scratch(view, readout), threads,
                    [&](std::int64_t first, int filled, const float* packed, float* scratch) {
                        thread_local std::vector<double> sums;
                        sums.resize((1 + units()) * cubature_max_lanes);
                        OUTSAMPLE_KERNEL(cubature_readout_many)(view, readout, packed, scratch, sums.data());
                        float errors[3 * cubature_max_lanes];
                        OUTSAMPLE_KERNEL(cubature_errors)(sketch, packed, errors);
                        for (int lane = 0; lane < filled; ++lane)
                            results[first + lane] = {sums[lane] + readout_.intercept, errors[lane],
                                                     errors[lanes + lane], errors[2 * lanes + lane]};
                    });
}

void point_signals(const Forest& forest, int hidden_size, int outputs, const float* const* weights, std::int64_t count,
                   bool all, float* signals, int threads) {
    const ForestView view = forest.networks_in_lanes(hidden_size, outputs);
    for_lane_groups(view, weights, count, cubature_scratch(view), threads,
                    [&](std::int64_t first, int filled, const float* packed, float* scratch) {
                        OUTSAMPLE_KERNEL(cubature_signals)
                        (view, packed, scratch, signals + first, count, filled, all);
                    });
}

void point_features(const Forest& forest, int hidden_size, int outputs, const FeatureView& features, const float* mean,
                    const float* inverse_sd, const float* const* weights, std::int64_t count, float* result,
                    int threads) {
    const ForestView view = forest.networks_in_lanes(hidden_size, outputs);
    for_lane_groups(view, weights, count, cubature_scratch(view), threads,
                    [&](std::int64_t first, int filled, const float* packed, float* scratch) {
                        OUTSAMPLE_KERNEL(cubature_features)
                        (view, features, mean, inverse_sd, packed, scratch, result + first, count, filled);
                    });
}

void point_tangents(const Forest& forest, int hidden_size, int outputs, const FeatureView& features,
                    const float* const* weights, std::int64_t count, const float* coefficients, bool shared,
                    float* tangents, int threads) {
    const ForestView view = forest.networks_in_lanes(hidden_size, outputs);
    for_lane_groups(view, weights, count, cubature_scratch(view), threads,
                    [&](std::int64_t first, int filled, const float* packed, float* scratch) {
                        OUTSAMPLE_KERNEL(cubature_tangents)
                        (view, features, packed, scratch, shared ? coefficients : coefficients + first, shared,
                         tangents + first, count, filled);
                    });
}

}  // namespace outsample
