#include "evaluate.hpp"

namespace outsample::OUTSAMPLE_ISA {

namespace {

// D: hidden size if known at compile time, else 0.
template <int D>
void evaluate(const Network& network, const float* second, const float* x, float* states, bool keep_states,
              float* logits) {
    const int d = D ? D : network.hidden_size, n = network.seq_len;
    // States take turns in two places, or have one each.
    auto state = [=](int t) { return states + (keep_states ? t : t % 2) * d * block; };
    const bool shortcut = second && n > 1;
    if (!shortcut || keep_states) layer<0, true>(d, 0, nullptr, nullptr, network.W_hi, x, network.b_h, state(0));
    if (shortcut) {
        alignas(64) float rays[2 * block];
        for (int v = 0; v < width; ++v) {
            const vfloat x0 = load<vfloat>(x + v * lanes);
            store(rays + v * lanes, relu(x0));
            store(rays + block + v * lanes, relu(-x0));
        }
        layer<2, true>(d, 2, second, rays, network.W_hi, x + block, nullptr, state(1));
    }
    for (int t = shortcut ? 2 : 1; t < n; ++t)
        layer<D, true>(d, d, network.W_hh, state(t - 1), network.W_hi, x + t * block, network.b_h, state(t));
    layer<D, false>(network.output_size, d, network.W_oh, state(n - 1), nullptr, nullptr, network.b_o, logits);
}

}  // namespace

const float* second_step_weights(const Network& network, float* place) {
    const int d = network.hidden_size;
    for (int i = 0; network.b_h && i < d; ++i)
        if (network.b_h[i] != 0) return nullptr;
    // Every call comes through here: in vectors where rows fill them, and without branches on signs, which cannot be
    // predicted.
    if (d == lanes || d == 2 * lanes) {
        alignas(64) float products[2 * lanes * lanes], sums[2 * lanes];
        for (int first = 0; first < d; first += lanes) {
            for (int i = 0; i < lanes; ++i) {
                vfloat up{}, down{};
                for (int j = 0; j < d; j += lanes) {
                    const vfloat w = load<vfloat>(network.W_hi + j);
                    const vfloat row = load<vfloat>(network.W_hh + (first + i) * d + j);
                    up += row * relu(w);
                    down += row * relu(-w);
                }
                store(products + 2 * i * lanes, up);
                store(products + (2 * i + 1) * lanes, down);
            }
            add_lanes(products, 2 * lanes, sums);
            for (int i = 0; i < 2 * lanes; ++i) place[2 * first + i] = sums[i];
        }
        return place;
    }
    for (int i = 0; i < 2 * d; ++i) place[i] = 0;
    for (int j = 0; j < d; ++j) {
        const float w = network.W_hi[j], up = w > 0.0f ? w : 0.0f, down = w < 0.0f ? -w : 0.0f;
        for (int i = 0; i < d; ++i) {
            place[2 * i] += network.W_hh[i * d + j] * up;
            place[2 * i + 1] += network.W_hh[i * d + j] * down;
        }
    }
    return place;
}

void evaluate_block(const Network& network, const float* second, const float* x, float* states, bool keep_states,
                    float* logits) {
    // Loops of known length for the sizes of AlgZoo.
    switch (network.hidden_size) {
        case 2:
            return evaluate<2>(network, second, x, states, keep_states, logits);
        case 3:
            return evaluate<3>(network, second, x, states, keep_states, logits);
        case 4:
            return evaluate<4>(network, second, x, states, keep_states, logits);
        case 5:
            return evaluate<5>(network, second, x, states, keep_states, logits);
        case 6:
            return evaluate<6>(network, second, x, states, keep_states, logits);
        case 8:
            return evaluate<8>(network, second, x, states, keep_states, logits);
        case 16:
            return evaluate<16>(network, second, x, states, keep_states, logits);
        case 32:
            return evaluate<32>(network, second, x, states, keep_states, logits);
        default:
            return evaluate<0>(network, second, x, states, keep_states, logits);
    }
}

}  // namespace outsample::OUTSAMPLE_ISA
