#include "outsample/transformer.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "outsample/parallel.hpp"

namespace outsample {

namespace {

void multiply(const float* matrix, int rows, int columns, const double* vector, double* result) {
    for (int r = 0; r < rows; ++r) {
        double sum = 0.0;
        for (int c = 0; c < columns; ++c) sum += matrix[r * columns + c] * vector[c];
        result[r] = sum;
    }
}

// One input at a time. What the first layer projects depends on token and position alone, so it is tabulated once.
class Evaluator {
  public:
    explicit Evaluator(const Transformer& model)
        : m_(model),
          n_(model.seq_len),
          d_(model.hidden_size),
          table_(std::size_t(n_) * n_ * 4 * d_),
          state_(n_ * d_),
          projected_(n_ * 3 * d_),
          weights_(n_),
          mixed_(d_),
          change_(d_) {
        for (int i = 0; i < n_; ++i)
            for (int token = 0; token < n_; ++token) {
                double* h = entry(i, token);
                for (int c = 0; c < d_; ++c) h[c] = double(m_.embed[token * d_ + c]) + double(m_.pos_embed[i * d_ + c]);
                multiply(m_.in_proj, 3 * d_, d_, h, h + d_);
            }
    }

    void logits(const std::int32_t* x, double* out) {
        for (int i = 0; i < n_; ++i) {
            const double* h = entry(i, x[i]);
            std::copy(h, h + d_, &state_[i * d_]);
            std::copy(h + d_, h + 4 * d_, &projected_[i * 3 * d_]);
        }
        for (int layer = 0; layer < m_.layers; ++layer) {
            const bool last = layer + 1 == m_.layers;
            if (layer > 0)
                for (int i = 0; i < n_; ++i)
                    multiply(m_.in_proj + std::size_t(layer) * 3 * d_ * d_, 3 * d_, d_, &state_[i * d_],
                             &projected_[i * 3 * d_]);
            for (int i = last ? n_ - 1 : 0; i < n_; ++i) attend(layer, i);
        }
        multiply(m_.unembed, n_, d_, &state_[(n_ - 1) * d_], out);
    }

  private:
    const Transformer& m_;
    const int n_, d_;
    std::vector<double> table_;  // per position and token: state, query, key, value
    std::vector<double> state_, projected_, weights_, mixed_, change_;

    double* entry(int position, int token) { return &table_[(std::size_t(position) * n_ + token) * 4 * d_]; }

    void attend(int layer, int i) {
        const double* query = &projected_[i * 3 * d_];
        const double scale = 1.0 / std::sqrt(double(d_));
        double top = -INFINITY, sum = 0.0;
        for (int j = 0; j < n_; ++j) {
            const double* key = &projected_[j * 3 * d_ + d_];
            double score = 0.0;
            for (int c = 0; c < d_; ++c) score += query[c] * key[c];
            weights_[j] = score * scale;
            top = std::max(top, weights_[j]);
        }
        std::fill(mixed_.begin(), mixed_.end(), 0.0);
        for (int j = 0; j < n_; ++j) {
            const double weight = std::exp(weights_[j] - top);
            const double* value = &projected_[j * 3 * d_ + 2 * d_];
            sum += weight;
            for (int c = 0; c < d_; ++c) mixed_[c] += weight * value[c];
        }
        for (double& x : mixed_) x /= sum;
        multiply(m_.out_proj + std::size_t(layer) * d_ * d_, d_, d_, mixed_.data(), change_.data());
        for (int c = 0; c < d_; ++c) state_[i * d_ + c] += change_[c];
    }
};

void check_tokens(const std::int32_t* x, std::int64_t values, int n) {
    for (std::int64_t i = 0; i < values; ++i)
        if (x[i] < 0 || x[i] >= n)
            throw std::invalid_argument("x must hold integers from 0 to " + std::to_string(n - 1) + ", got " +
                                        std::to_string(x[i]));
}

bool is_correct(Evaluator& evaluator, const std::int32_t* x, int n, std::vector<double>& logits) {
    evaluator.logits(x, logits.data());
    return std::max_element(logits.begin(), logits.end()) - logits.begin() == longest_cycle_label(x, n);
}

template <class Inputs>
std::int64_t count(const Transformer& model, std::int64_t inputs, int threads, const Inputs& visit) {
    std::atomic<std::int64_t> correct{0};
    parallel_for(inputs, 256, threads, [&](std::int64_t first, std::int64_t last) {
        Evaluator evaluator(model);
        std::vector<double> logits(model.seq_len);
        std::int64_t found = 0;
        visit(first, last, [&](const std::int32_t* x) { found += is_correct(evaluator, x, model.seq_len, logits); });
        correct += found;
    });
    return correct;
}

}  // namespace

long long forward_multiply_adds(const Transformer& model) {
    const long long n = model.seq_len, d = model.hidden_size;
    const long long position = 2 * n * d + d * d;  // scores, weighted sum, output projection
    return (model.layers - 1) * n * (3 * d * d + position) + n * 2 * d * d + d * d + position + n * d;
}

void forward(const Transformer& model, const std::int32_t* x, std::int64_t count, double* logits, int threads) {
    const std::int64_t n = model.seq_len;
    check_tokens(x, count * n, model.seq_len);
    parallel_for(count, 256, threads, [&](std::int64_t first, std::int64_t last) {
        Evaluator evaluator(model);
        for (std::int64_t i = first; i < last; ++i) evaluator.logits(x + i * n, logits + i * n);
    });
}

int longest_cycle_label(const std::int32_t* x, int n) {
    int longest = 1;
    for (int start = 0; start < n; ++start) {
        int at = x[start], steps = 1;
        while (at != start && steps <= n) at = x[at], ++steps;
        if (at == start) longest = std::max(longest, steps);
    }
    return longest - 1;
}

std::int64_t count_correct(const Transformer& model, const std::int32_t* x, std::int64_t inputs, int threads) {
    const std::int64_t n = model.seq_len;
    check_tokens(x, inputs * n, model.seq_len);
    return count(model, inputs, threads, [&](std::int64_t first, std::int64_t last, auto&& look) {
        for (std::int64_t i = first; i < last; ++i) look(x + i * n);
    });
}

std::int64_t count_correct_range(const Transformer& model, std::int64_t start, std::int64_t inputs, int threads) {
    const int n = model.seq_len;
    return count(model, inputs, threads, [&](std::int64_t first, std::int64_t last, auto&& look) {
        std::vector<std::int32_t> x(n);
        for (std::int64_t rest = start + first, i = n - 1; i >= 0; --i, rest /= n) x[i] = rest % n;
        for (std::int64_t number = first; number < last; ++number) {
            look(x.data());
            for (int i = n - 1; i >= 0 && ++x[i] == n; --i) x[i] = 0;
        }
    });
}

}  // namespace outsample
