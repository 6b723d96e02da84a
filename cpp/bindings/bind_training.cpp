#include "bind_network.hpp"
#include "outsample/training.hpp"

namespace {

using outsample::parse_task;

py::tuple loss_gradient(const PyNetwork& network, const Array<float>& x, const std::string& task,
                        const std::optional<Array<float>>& targets, const std::optional<Array<float>>& logit_gradients,
                        bool input_gradients, int threads) {
    const auto& view = network.view();
    const py::ssize_t count = x.shape(0);
    Array<double> gradient(outsample::parameter_count(view));
    std::optional<Array<float>> of_inputs;
    if (input_gradients) of_inputs = Array<float>({count, static_cast<py::ssize_t>(view.seq_len)});
    const outsample::Sequences sequences = {x.data(), 0, 0, count};
    const outsample::Targets wanted = {parse_task(task), targets ? targets->data() : nullptr,
                                       logit_gradients ? logit_gradients->data() : nullptr};
    double* out = gradient.mutable_data();
    float* inputs_out = of_inputs ? of_inputs->mutable_data() : nullptr;
    outsample::BatchResult result;
    {
        py::gil_scoped_release release;
        result = outsample::loss_gradient(view, sequences, wanted, out, inputs_out, threads);
    }
    return py::make_tuple(result.loss, result.correct, gradient, of_inputs);
}

using State = py::array_t<float, py::array::c_style>;

py::tuple train(int hidden_size, int seq_len, const std::string& task, int output_size, bool biases,
                std::int64_t batch_size, std::uint64_t key, const std::tuple<double, double, double, double>& adamw,
                const std::tuple<double, std::int64_t, double, std::int64_t>& schedule, State& parameters,
                State& first_moment, State& second_moment, std::int64_t step, std::int64_t steps, int threads) {
    const auto [beta1, beta2, eps, weight_decay] = adamw;
    const auto [base, warmup_steps, final_factor, total_steps] = schedule;
    const outsample::Recipe recipe = {hidden_size,
                                      seq_len,
                                      output_size,
                                      biases,
                                      parse_task(task),
                                      batch_size,
                                      key,
                                      {beta1, beta2, eps, weight_decay},
                                      {base, warmup_steps, final_factor, total_steps}};
    const std::int64_t count = outsample::parameter_count(hidden_size, output_size, biases);
    for (const State* array : {&parameters, &first_moment, &second_moment})
        if (array->size() != count)
            throw std::invalid_argument("the state must have " + std::to_string(count) + " parameters, got " +
                                        std::to_string(array->size()));
    Array<double> loss(steps);
    Array<std::int64_t> correct(steps);
    outsample::TrainingState state = {parameters.mutable_data(), first_moment.mutable_data(),
                                      second_moment.mutable_data(), step};
    double* losses = loss.mutable_data();
    std::int64_t* counts = correct.mutable_data();
    std::int64_t done;
    {
        py::gil_scoped_release release;
        done = outsample::train(recipe, state, steps, losses, counts, threads);
    }
    return py::make_tuple(done, loss, correct);
}

}  // namespace

void bind_training(py::module_& m) {
    m.def("loss_gradient", &loss_gradient, "network"_a, "x"_a, "task"_a, "targets"_a = py::none(),
          "logit_gradients"_a = py::none(), "input_gradients"_a = false, "threads"_a = 1,
          "Sums over a batch: loss, right answers, derivatives with respect to the parameters (flat), and those with "
          "respect to every input or None.");
    m.def(
        "train", &train, "hidden_size"_a, "seq_len"_a, "task"_a, "output_size"_a, "biases"_a, "batch_size"_a, "key"_a,
        "adamw"_a, "schedule"_a, py::arg("parameters").noconvert(), py::arg("first_moment").noconvert(),
        py::arg("second_moment").noconvert(), "step"_a, "steps"_a, "threads"_a = 1,
        "Runs steps of training, changing the state's arrays in place. Returns the steps that went well, and loss and "
        "right answers of each.");
}
