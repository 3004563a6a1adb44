// What the right answer is: the operator in float64, straight from its definition, and data to compare it on.
#ifndef CONV3DT_REFERENCE_HPP_
#define CONV3DT_REFERENCE_HPP_

#include <random>

#include "conv3dt_bundle.hpp"

namespace conv3dt {

// The largest magnitude of integers whose sums float32 holds exactly, in any order.
inline int largest_integer(const Workload& workload) {
  const std::size_t first = workload.data_format == "NCDHW" ? 2 : 1;
  double terms = static_cast<double>(workload.in_channels());
  for (std::size_t axis = 0; axis < 3; ++axis)
    terms *= static_cast<double>(std::min(workload.filters[axis], workload.input[first + axis]));
  return static_cast<int>(std::clamp(std::sqrt((8388607.0 - 8) / terms), 1.0, 8.0));
}

inline void fill_with_integers(Array& array, int largest, std::mt19937& random) {
  float* values = array.data<float>();
  for (std::size_t i = 0; i < array.size(); ++i) {
    const auto magnitude = static_cast<float>(random() % static_cast<unsigned>(largest) + 1);
    values[i] = random() % 2 ? magnitude : -magnitude;
  }
}

inline double activate(const Workload& workload, double value) {
  // Kernels compute in float32.
  const double alpha = static_cast<float>(workload.alpha);
  if (workload.activation == "relu") return std::max(value, 0.0);
  if (workload.activation == "leaky_relu") return value > 0 ? value : alpha * value;
  if (workload.activation == "elu") return value > 0 ? value : alpha * std::expm1(value);
  if (workload.activation == "sigmoid") return 1 / (1 + std::exp(-value));
  if (workload.activation == "tanh") return std::tanh(value);
  return value;
}

// output[o] = sum of input[i] * filters[t] over i and t with o + pad_before == stride * i + dilation * t
inline std::vector<double> reference(const Workload& workload, Array& x, Array& filters,
                                     std::optional<Array>& bias) {
  const bool channels_first = workload.data_format == "NCDHW";
  const std::size_t first = channels_first ? 2 : 1;
  const auto offset = [&](const std::array<std::int64_t, 5>& shape, std::int64_t n, std::int64_t d,
                          std::int64_t h, std::int64_t w, std::int64_t c) {
    const std::int64_t volume = ((n * shape[first] + d) * shape[first + 1] + h) * shape[first + 2] + w;
    if (!channels_first) return volume * shape[4] + c;
    const std::int64_t plane = shape[2] * shape[3] * shape[4];
    return (n * shape[1] + c) * plane + (volume - n * plane);
  };
  const std::int64_t outs = workload.out_channels(), ins = workload.in_channels();
  const auto& in = workload.input;
  const auto& out = workload.output_shape;
  const auto lands = [&](std::size_t axis, std::int64_t i, std::int64_t tap) {
    const std::int64_t o = workload.strides[axis] * i + workload.dilations[axis] * tap -
                           workload.pad_before[axis];
    return o >= 0 && o < out[first + axis] ? o : -1;
  };
  std::vector<double> y(static_cast<std::size_t>(std::accumulate(
      out.begin(), out.end(), std::int64_t{1}, std::multiplies<>())));
  std::vector<double> position(static_cast<std::size_t>(ins));
  for (std::int64_t n = 0; n < in[0]; ++n)
    for (std::int64_t d = 0; d < in[first]; ++d)
      for (std::int64_t h = 0; h < in[first + 1]; ++h)
        for (std::int64_t w = 0; w < in[first + 2]; ++w) {
          for (std::int64_t c = 0; c < ins; ++c)
            position[c] = x.data<float>()[offset(in, n, d, h, w, c)];
          const float* taps = filters.data<float>();
          for (std::int64_t kd = 0; kd < workload.filters[0]; ++kd)
            for (std::int64_t kh = 0; kh < workload.filters[1]; ++kh)
              for (std::int64_t kw = 0; kw < workload.filters[2]; ++kw, taps += outs * ins) {
                const std::int64_t od = lands(0, d, kd), oh = lands(1, h, kh), ow = lands(2, w, kw);
                if (od < 0 || oh < 0 || ow < 0) continue;
                for (std::int64_t c = 0; c < outs; ++c)
                  y[offset(out, n, od, oh, ow, c)] += std::inner_product(
                      position.begin(), position.end(), taps + c * ins, 0.0);
              }
        }
  const std::int64_t plane = out[2] * out[3] * out[4];
  for (std::size_t i = 0; i < y.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const std::int64_t channel = channels_first ? at / plane % outs : at % outs;
    y[i] = activate(workload, y[i] + (bias ? bias->data<float>()[channel] : 0.0f));
  }
  return y;
}

}  // namespace conv3dt

#endif  // CONV3DT_REFERENCE_HPP_
