#include "bind_network.hpp"

#include <algorithm>

#include "outsample/points.hpp"

namespace {

// `shape` spells the dimensions before the last two.
void check_tables(const Array<float>& tables, const char* name, int rows, int dimensions, const std::string& shape) {
    if (tables.ndim() != dimensions || tables.shape(dimensions - 2) != rows ||
        tables.shape(dimensions - 1) != outsample::points_per_group)
        throw std::invalid_argument(std::string(name) + " must have shape (" + shape + ", " + std::to_string(rows) +
                                    ", " + std::to_string(outsample::points_per_group) + "), got " +
                                    shape_text(tables));
}

py::tuple point_sums(const PyNetwork& network, const Array<float>& tables, bool exact_last, int threads,
                     std::int64_t intervals) {
    const auto& view = network.view();
    const int rows = outsample::point_rows(view.seq_len, exact_last);
    check_tables(tables, "tables", rows, 4, "count, groups");
    const std::int64_t count = tables.shape(0), groups = tables.shape(1);
    const float* data = tables.data();
    std::vector<double> sums(count);
    std::int64_t walked = 0;
    {
        py::gil_scoped_release release;
        for (std::int64_t i = 0; i < count; ++i) {
            const float* table = data + i * groups * rows * outsample::points_per_group;
            const auto result = outsample::point_sum(view, {table, groups, exact_last}, intervals, threads);
            sums[i] = result.sum;
            walked += result.walked;
        }
    }
    return py::make_tuple(sums, walked);
}

// Network i on tables first[i] ... first[i] + copies - 1: the sums, shape (networks, copies), and the intervals walked,
// shape (networks,).
py::tuple point_sums_many(const std::vector<std::shared_ptr<PyNetwork>>& networks, const Array<float>& tables,
                          const std::vector<std::int64_t>& first, std::int64_t copies, bool exact_last, int threads,
                          std::int64_t intervals) {
    check_threads(threads);
    if (copies < 0) throw std::invalid_argument("copies must be at least 0, got " + std::to_string(copies));
    if (first.size() != networks.size())
        throw std::invalid_argument("first must have one entry per network, got " + std::to_string(first.size()) +
                                    " for " + std::to_string(networks.size()));
    const auto views = views_of_one_shape(networks);
    const auto count = static_cast<py::ssize_t>(views.size());
    Array<double> sums({count, py::ssize_t(copies)});
    Array<std::int64_t> walked(count);
    if (count == 0) return py::make_tuple(sums, walked);
    const int rows = outsample::point_rows(views[0]->seq_len, exact_last);
    check_tables(tables, "tables", rows, 4, "count, groups");
    std::vector<outsample::PointJob> jobs;
    for (py::ssize_t i = 0; i < count; ++i) {
        if (first[i] < 0 || first[i] + copies > tables.shape(0))
            throw std::invalid_argument("first must leave " + std::to_string(copies) + " of " +
                                        std::to_string(tables.shape(0)) + " tables, got " + std::to_string(first[i]));
        for (std::int64_t j = 0; j < copies; ++j)
            jobs.push_back({views[i], {tables.data(first[i] + j), tables.shape(1), exact_last}});
    }
    double* sum = sums.mutable_data();
    std::int64_t* steps = walked.mutable_data();
    {
        py::gil_scoped_release release;
        std::vector<outsample::RuleSum> results(jobs.size());
        outsample::point_sum_many(jobs.data(), static_cast<std::int64_t>(jobs.size()), intervals, threads,
                                  results.data());
        std::fill(steps, steps + count, 0);
        for (std::size_t i = 0; i < jobs.size(); ++i) {
            sum[i] = results[i].sum;
            steps[i / copies] += results[i].walked;
        }
    }
    return py::make_tuple(sums, walked);
}

Array<double> point_sums_of_weights(const Array<float>& weights, int hidden_size, int seq_len,
                                    const Array<float>& table, bool exact_last, int threads) {
    const int shortest = exact_last ? 2 : 1;
    if (seq_len < shortest)
        throw std::invalid_argument("seq_len must be at least " + std::to_string(shortest) + ", got " +
                                    std::to_string(seq_len));
    check_threads(threads);
    check_tables(table, "table", outsample::point_rows(seq_len, exact_last), 3, "groups");
    const py::ssize_t d = hidden_size;
    std::vector<outsample::Network> networks;
    for (const float* w : rows(weights, hidden_size, seq_len))
        networks.push_back({hidden_size, seq_len, seq_len, w, w + d * d, w + d * (d + 1), nullptr, nullptr});
    const outsample::PointTable points{table.data(), table.shape(0), exact_last};
    Array<double> sums(py::ssize_t(networks.size()));
    double* out = sums.mutable_data();
    {
        py::gil_scoped_release release;
        std::vector<outsample::PointJob> jobs;
        for (const auto& network : networks) jobs.push_back({&network, points});
        std::vector<outsample::RuleSum> results(jobs.size());
        outsample::point_sum_many(jobs.data(), static_cast<std::int64_t>(jobs.size()), outsample::any_intervals,
                                  threads, results.data());
        for (std::size_t i = 0; i < jobs.size(); ++i) out[i] = results[i].sum;
    }
    return sums;
}

py::tuple conditional_sum(const PyNetwork& network, const std::string& task, std::int64_t strata, std::uint64_t key,
                          int threads, std::int64_t intervals) {
    const auto parsed = outsample::parse_task(task);
    outsample::RuleSum result;
    {
        py::gil_scoped_release release;
        result = outsample::conditional_sum(network.view(), parsed, strata, key, intervals, threads);
    }
    return py::make_tuple(result.sum, result.squares, result.walked);
}

// The same for each of many networks with a key of its own: three arrays of shape (networks,).
py::tuple conditional_sum_many(const std::vector<std::shared_ptr<PyNetwork>>& networks, const std::string& task,
                               std::int64_t strata, const std::vector<std::uint64_t>& keys, int threads,
                               std::int64_t intervals) {
    check_threads(threads);
    require_key_for_each(keys.size(), networks.size());
    const auto views = views_of_one_shape(networks);
    const auto parsed = outsample::parse_task(task);
    const auto count = static_cast<py::ssize_t>(views.size());
    std::vector<outsample::RuleSum> results(views.size());
    {
        py::gil_scoped_release release;
        outsample::conditional_sum_many(views.data(), keys.data(), count, parsed, strata, intervals, threads,
                                        results.data());
    }
    Array<double> sums(count), squares(count);
    Array<std::int64_t> walked(count);
    for (py::ssize_t i = 0; i < count; ++i) {
        sums.mutable_at(i) = results[i].sum;
        squares.mutable_at(i) = results[i].squares;
        walked.mutable_at(i) = results[i].walked;
    }
    return py::make_tuple(sums, squares, walked);
}

Array<float> conditional_expectations(const PyNetwork& network, const std::string& task, const Array<float>& x,
                                      int threads) {
    const auto& view = network.view();
    if (x.ndim() != 2 || x.shape(1) != view.seq_len - 1)
        throw std::invalid_argument("x must have shape (count, " + std::to_string(view.seq_len - 1) + ")");
    const auto parsed = outsample::parse_task(task);
    Array<float> expectations(x.shape(0));
    const float* in = x.data();
    float* out = expectations.mutable_data();
    const std::int64_t count = x.shape(0);
    {
        py::gil_scoped_release release;
        outsample::conditional_expectations(view, parsed, in, count, threads, out);
    }
    return expectations;
}

}  // namespace

void bind_points(py::module_& m) {
    m.attr("points_per_group") = outsample::points_per_group;
    m.attr("strata_boxes") = outsample::strata_boxes;
    m.def(
        "point_sums", &point_sums, "network"_a, "tables"_a, "exact_last"_a, "threads"_a = 1,
        "intervals"_a = outsample::any_intervals,
        "For each table of points, the sum of weight times probability of a right answer; intervals walked in all, so "
        "many times the number of points at most.");
    m.def("point_sums_many", &point_sums_many, "networks"_a, "tables"_a, "first"_a, "copies"_a, "exact_last"_a,
          "threads"_a = 1, "intervals"_a = outsample::any_intervals,
          "point_sums for networks of one shape, each with the tables first ... first + copies - 1: sums (networks, "
          "copies) and intervals walked (networks,).");
    m.def("point_sums_of_weights", &point_sums_of_weights, "weights"_a, "hidden_size"_a, "seq_len"_a, "table"_a,
          "exact_last"_a, "threads"_a = 1,
          "The sum over one table of points for each network (a row of weights), as in point_sums.");
    m.def(
        "conditional_sum", &conditional_sum, "network"_a, "task"_a, "strata"_a, "key"_a, "threads"_a = 1,
        "intervals"_a = outsample::any_intervals,
        "Sum of P(right answer | first n - 1 inputs), or of E(squared error | first n - 1 inputs), over two samples in "
        "each stratum; sum over strata of their squared difference; intervals walked, so many times the number of "
        "samples "
        "at most.");
    m.def("conditional_sum_many", &conditional_sum_many, "networks"_a, "task"_a, "strata"_a, "keys"_a, "threads"_a = 1,
          "intervals"_a = outsample::any_intervals,
          "conditional_sum for networks of one shape, each with its own key: three arrays of shape (networks,).");
    m.def("conditional_expectations", &conditional_expectations, "network"_a, "task"_a, "x"_a, "threads"_a = 1,
          "P(right answer | first n - 1 inputs), or E(squared error | first n - 1 inputs), for x of shape "
          "(count, n - 1).");
    m.def(
        "rule_cost",
        [](const PyNetwork& network, const std::string& task, bool exact_last) {
            const auto cost = outsample::rule_cost(network.view(), outsample::parse_task(task), exact_last);
            return py::make_tuple(cost.once, cost.point, cost.interval, cost.most, cost.planned);
        },
        "network"_a, "task"_a, "exact_last"_a,
        "Multiply-adds made once, for each point, and for each interval walked; intervals of a point, at most and "
        "planned for.");
}
