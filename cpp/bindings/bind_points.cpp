#include "bind_network.hpp"
#include "outsample/points.hpp"

namespace {

Array<double> point_sums(const PyNetwork& network, const Array<float>& table, bool exact_last, std::int64_t segments,
                         int threads) {
    const auto& view = network.view();
    const int rows = outsample::point_rows(view.seq_len, exact_last);
    if (table.ndim() != 3 || table.shape(1) != rows || table.shape(2) != outsample::points_per_group)
        throw std::invalid_argument("table must have shape (groups, " + std::to_string(rows) + ", " +
                                    std::to_string(outsample::points_per_group) + ")");
    Array<double> sums(static_cast<py::ssize_t>(segments < 0 ? 0 : segments));
    const outsample::PointTable points{table.data(), table.shape(0), exact_last};
    double* out = sums.mutable_data();
    {
        py::gil_scoped_release release;
        outsample::point_sums(view, points, segments, threads, out);
    }
    return sums;
}

py::tuple conditional_sums(const PyNetwork& network, const std::string& task, std::int64_t samples, std::uint64_t key,
                           std::int64_t first, int threads) {
    const auto parsed = outsample::parse_task(task);
    double sums[2];
    {
        py::gil_scoped_release release;
        outsample::conditional_sums(network.view(), parsed, samples, key, first, threads, sums);
    }
    return py::make_tuple(sums[0], sums[1]);
}

Array<float> conditional_probabilities(const PyNetwork& network, const std::string& task, const Array<float>& x,
                                       int threads) {
    const auto& view = network.view();
    if (x.ndim() != 2 || x.shape(1) != view.seq_len - 1)
        throw std::invalid_argument("x must have shape (count, " + std::to_string(view.seq_len - 1) + ")");
    const auto parsed = outsample::parse_task(task);
    Array<float> probabilities(x.shape(0));
    const float* in = x.data();
    float* out = probabilities.mutable_data();
    const std::int64_t count = x.shape(0);
    {
        py::gil_scoped_release release;
        outsample::conditional_probabilities(view, parsed, in, count, threads, out);
    }
    return probabilities;
}

}  // namespace

void bind_points(py::module_& m) {
    m.attr("points_per_group") = outsample::points_per_group;
    m.def("point_sums", &point_sums, "network"_a, "table"_a, "exact_last"_a, "segments"_a = 1, "threads"_a = 1,
          "Sums of weight times probability of a right answer over equal parts of a table of points.");
    m.def("conditional_sums", &conditional_sums, "network"_a, "task"_a, "samples"_a, "key"_a, "first"_a = 0,
          "threads"_a = 1,
          "Sum and sum of squares of P(right answer | first n - 1 inputs) over samples of the stream of a key.");
    m.def("conditional_probabilities", &conditional_probabilities, "network"_a, "task"_a, "x"_a, "threads"_a = 1,
          "P(right answer | first n - 1 inputs) for x of shape (count, n - 1).");
    m.def(
        "point_multiply_adds",
        [](const PyNetwork& network, bool exact_last) {
            long long once, each;
            outsample::point_multiply_adds(network.view(), exact_last, &once, &each);
            return py::make_tuple(once, each);
        },
        "network"_a, "exact_last"_a, "Multiply-adds of a rule: those made once, and those of each point.");
}
