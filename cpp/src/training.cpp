#include "outsample/training.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>

#include "outsample/parallel.hpp"

namespace outsample {

namespace {

// A batch is always cut into the same pieces and their sums are added in the same order, whatever the number of
// threads.
constexpr std::int64_t training_pieces = 8;
constexpr std::int64_t gradient_piece = 1024;

// Vectors of floats for the kernels: whole cache lines, zero at first.
class AlignedFloats {
  public:
    explicit AlignedFloats(std::int64_t count) : size_((count + 15) / 16 * 16), storage_(size_ + 16) {
        void* p = storage_.data();
        std::size_t space = storage_.size() * sizeof(float);
        data_ = static_cast<float*>(std::align(64, size_ * sizeof(float), p, space));
    }
    AlignedFloats(const AlignedFloats&) = delete;
    float* data() { return data_; }
    std::int64_t size() const { return size_; }

  private:
    std::int64_t size_;
    std::vector<float> storage_;
    float* data_;
};

// A step takes some ten microseconds, far less than waking a thread: waits by spinning, and gives way to other
// processes when it takes longer than that.
class Barrier {
  public:
    explicit Barrier(int count) : count_(count) {}

    void wait() {
        const int generation = generation_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
            arrived_.store(0, std::memory_order_relaxed);
            generation_.store(generation + 1, std::memory_order_release);
            return;
        }
        for (int spin = 0; generation_.load(std::memory_order_acquire) == generation; ++spin) {
            if (spin > 2000) std::this_thread::yield();
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
    }

  private:
    const int count_;
    std::atomic<int> arrived_{0};
    std::atomic<int> generation_{0};
};

}  // namespace

std::int64_t parameter_count(int hidden_size, int output_size, bool biases) {
    const std::int64_t d = hidden_size, outputs = output_size;
    return d * d + d + outputs * d + (biases ? d + outputs : 0);
}

Network network_of(int hidden_size, int seq_len, int output_size, bool biases, const float* parameters) {
    const std::int64_t d = hidden_size, outputs = output_size;
    const float* W_hi = parameters + d * d;
    const float* W_oh = W_hi + d;
    const float* b_h = W_oh + outputs * d;
    return {
        hidden_size, seq_len, output_size, parameters, W_hi, W_oh, biases ? b_h : nullptr, biases ? b_h + d : nullptr};
}

std::int64_t loss_gradient_scratch(const Network& network) {
    const std::int64_t d = network.hidden_size, n = network.seq_len, outputs = network.output_size;
    const std::int64_t sums = parameter_count(network) + 2 * d + 16;
    const std::int64_t tile = n + 2 + n * d + (gradient_chunk + 1) * d + 2 * outputs;
    return sums * (16 + 1) + tile * tile_sequences + 6 * d;
}

BatchResult loss_gradient(const Network& network, const Sequences& sequences, const Targets& targets, double* gradient,
                          float* input_gradient, int threads) {
    const std::int64_t parameters = parameter_count(network);
    const std::int64_t pieces = (sequences.count + gradient_piece - 1) / gradient_piece;
    std::vector<float> gradients(pieces * parameters);
    std::vector<BatchResult> results(pieces);
    parallel_for(pieces, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        AlignedFloats scratch(loss_gradient_scratch(network));
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t first = i * gradient_piece;
            Sequences piece = sequences;
            piece.count = std::min(gradient_piece, sequences.count - first);
            if (piece.x) piece.x += first * network.seq_len;
            piece.first += first;
            Targets wanted = targets;
            if (wanted.targets) wanted.targets += first;
            if (wanted.logit_gradients) wanted.logit_gradients += first * network.output_size;
            results[i] = OUTSAMPLE_KERNEL(loss_gradient_kernel)(
                network, piece, wanted, gradients.data() + i * parameters,
                input_gradient ? input_gradient + first * network.seq_len : nullptr, scratch.data());
        }
    });
    BatchResult total = {0, 0};
    std::fill(gradient, gradient + parameters, 0.0);
    for (std::int64_t i = 0; i < pieces; ++i) {
        total.loss += results[i].loss;
        total.correct += results[i].correct;
        for (std::int64_t j = 0; j < parameters; ++j) gradient[j] += gradients[i * parameters + j];
    }
    return total;
}

double Schedule::learning_rate(std::int64_t step) const {
    const double warmup = warmup_steps > 0 ? std::min(1.0, double(step + 1) / double(warmup_steps)) : 1.0;
    return base * warmup * std::max(std::pow(final_factor, 2.0 * double(step) / double(steps)), final_factor);
}

std::int64_t train(const Recipe& recipe, TrainingState& state, std::int64_t steps, double* loss, std::int64_t* correct,
                   int threads) {
    const std::int64_t parameters = parameter_count(recipe.hidden_size, recipe.output_size, recipe.biases);
    const std::int64_t tiles = (recipe.batch_size + tile_sequences - 1) / tile_sequences;
    const std::int64_t pieces = std::min(training_pieces, tiles);
    const int workers = static_cast<int>(std::min<std::int64_t>(threads, pieces));

    // Two sets, used in turn: nobody writes into a set before everybody has read it, with one barrier per step.
    const std::int64_t stride = (parameters + 15) / 16 * 16;
    AlignedFloats gradients(2 * pieces * stride);
    std::vector<BatchResult> results(2 * pieces);
    Barrier barrier(workers);
    std::int64_t finished = 0;

    // Every worker keeps its own copy of the state and makes the same update to it.
    const auto work = [&](std::int64_t worker) {
        AlignedFloats weights(parameters), first_moment(parameters), second_moment(parameters);
        std::copy(state.parameters, state.parameters + parameters, weights.data());
        std::copy(state.first_moment, state.first_moment + parameters, first_moment.data());
        std::copy(state.second_moment, state.second_moment + parameters, second_moment.data());
        const Network network =
            network_of(recipe.hidden_size, recipe.seq_len, recipe.output_size, recipe.biases, weights.data());
        AlignedFloats scratch(loss_gradient_scratch(network));
        std::int64_t done = 0;
        bool well = true;
        for (; done < steps && well; ++done) {
            const std::int64_t step = state.step + done;
            const std::int64_t set = done % 2 * pieces;
            for (std::int64_t piece = pieces * worker / workers; piece < pieces * (worker + 1) / workers; ++piece) {
                const std::int64_t first = tiles * piece / pieces * tile_sequences;
                const std::int64_t last = std::min(tiles * (piece + 1) / pieces * tile_sequences, recipe.batch_size);
                const Sequences sequences = {nullptr, recipe.key, step * tiles * tile_sequences + first, last - first};
                results[set + piece] = OUTSAMPLE_KERNEL(loss_gradient_kernel)(
                    network, sequences, {recipe.task, nullptr, nullptr}, gradients.data() + (set + piece) * stride,
                    nullptr, scratch.data());
            }
            barrier.wait();
            BatchResult total = {0, 0};
            for (std::int64_t piece = 0; piece < pieces; ++piece) {
                total.loss += results[set + piece].loss;
                total.correct += results[set + piece].correct;
            }
            well =
                OUTSAMPLE_KERNEL(adamw_kernel)(recipe.adamw, recipe.schedule.learning_rate(step), step + 1,
                                               1.0 / double(recipe.batch_size), stride, gradients.data() + set * stride,
                                               pieces, weights.data(), first_moment.data(), second_moment.data()) &&
                std::isfinite(total.loss);
            if (worker == 0) {
                loss[done] = total.loss / double(recipe.batch_size);
                correct[done] = total.correct;
            }
        }
        barrier.wait();  // nobody reads the shared state any more
        if (worker != 0) return;
        std::copy(weights.data(), weights.data() + parameters, state.parameters);
        std::copy(first_moment.data(), first_moment.data() + parameters, state.first_moment);
        std::copy(second_moment.data(), second_moment.data() + parameters, state.second_moment);
        finished = well ? done : done - 1;
    };
    parallel_for(workers, 1, workers, [&](std::int64_t begin, std::int64_t) { work(begin); });
    state.step += finished;
    return finished;
}

}  // namespace outsample
