// The Python-side owner of a network's weights, shared by every binding that takes a network.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "common.hpp"
#include "outsample/network.hpp"

// Immutable after construction, so it can be shared between threads without a lock.
class PyNetwork {
  public:
    PyNetwork(const Array<float>& W_hh, const Array<float>& W_hi, const Array<float>& W_oh, int seq_len,
              const std::optional<Array<float>>& b_h, const std::optional<Array<float>>& b_o);

    const outsample::Network& view() const { return view_; }

  private:
    std::vector<float> weights_;
    outsample::Network view_;
};

// The networks behind them, which must have the same hidden_size and seq_len.
std::vector<const outsample::Network*> views_of_one_shape(const std::vector<std::shared_ptr<PyNetwork>>& networks);

// Rows of a (count, parameters) array: W_hh, W_hi, W_oh one after the other.
std::vector<const float*> rows(const Array<float>& weights, int hidden_size, int outputs);
