#pragma once

// Reads Python tensors into a GradientTable.

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/gradient_table.hpp"
#include "common/overlap.hpp"
#include "python/tensor_reader.hpp"
#include "python/tensor_view.hpp"

namespace pyfront {

namespace py = pybind11;

// Owns the arrays behind a GradientTable and keeps the tensors alive.
class TensorTable {
 public:
  TensorTable(const py::sequence& rows, py::handle tensor_type, bool use_exchange_api)
      : reader_(tensor_type, use_exchange_api) {
    tasks_ = static_cast<std::int64_t>(py::len(rows));
    if (tasks_ == 0) throw py::value_error("gradients: expected at least one task, got none");
    for (std::int64_t task = 0; task < tasks_; ++task) add_row(task, rows[task]);
    mark_layouts();
  }

  GradientTable view() const {
    return {.tasks = tasks_,
            .blocks = blocks_,
            .pointers = pointers_,
            .lengths = lengths_,
            .dtypes = dtypes_,
            .device = device()};
  }
  // GradientTable::cpu, or the number of a CUDA device; the CPU where there is no tensor.
  int device() const { return device_.value_or(GradientTable::cpu); }
  std::int64_t tasks() const { return tasks_; }
  std::int64_t blocks() const { return blocks_; }
  // (task, block) of tensors that must be copied first: not dense, or laid out unlike their block.
  const std::vector<std::pair<std::int64_t, std::int64_t>>& irregular() const { return irregular_; }
  // For each block the first task that has it, −1 where none has.
  const std::vector<std::int64_t>& first_tasks() const { return reference_; }

  // `row` as what d can be written straight into, or nothing where it cannot: tensors laid out as
  // their blocks, on the same device, that share memory neither with a gradient nor with each
  // other; or None. With `plain` a tensor for each block that has a gradient, without a graph and
  // of no subclass.
  std::unique_ptr<TensorTable> destination(const py::sequence& row, py::handle tensor_type,
                                           bool plain) const {
    if (plain && !is_plain(row)) return nullptr;
    try {
      auto out = std::make_unique<TensorTable>(py::make_tuple(row), tensor_type, true);
      return fits(*out) ? std::move(out) : nullptr;
    } catch (const py::builtin_exception&) {
      return nullptr;  // what is wrong with them is for the caller to name
    }
  }

 private:
  bool fits(const TensorTable& out) const {
    if (out.tasks_ != 1 || out.blocks_ != blocks_ || !irregular_.empty() ||
        !out.irregular_.empty()) {
      return false;
    }
    if (out.device_ && out.device_ != device_) return false;
    for (std::size_t b = 0; b < lengths_.size(); ++b) {
      if (out.reference_[b] >= 0 && !same_block(layouts_[b], out.layouts_[b])) return false;
    }
    return are_apart(view(), out.view());
  }

  bool is_plain(const py::sequence& row) const {
    if (static_cast<std::int64_t>(py::len(row)) != blocks_) return false;
    std::size_t b = 0;
    return std::ranges::all_of(row, [&](const py::handle tensor) {
      return reference_[b++] < 0 ? tensor.is_none() : reader_.is_plain(tensor);
    });
  }

  static std::string name(std::int64_t task, std::int64_t block) {
    return "gradients[" + std::to_string(task) + "][" + std::to_string(block) + "]";
  }

  void add_row(std::int64_t task, const py::object& row) {
    const auto items = py::reinterpret_steal<py::object>(
        PySequence_Fast(row.ptr(), "gradients: each task must be a sequence of tensors or None"));
    if (!items) throw py::error_already_set();
    const auto count = static_cast<std::int64_t>(PySequence_Fast_GET_SIZE(items.ptr()));
    if (task == 0) resize(count);
    if (count != blocks_) {
      throw py::value_error("gradients[" + std::to_string(task) + "]: expected " +
                            std::to_string(blocks_) + " blocks as in gradients[0], got " +
                            std::to_string(count));
    }
    PyObject** item = PySequence_Fast_ITEMS(items.ptr());
    for (std::int64_t block = 0; block < count; ++block) {
      if (item[block] != Py_None) add_tensor(task, block, item[block]);
    }
  }

  void resize(std::int64_t blocks) {
    blocks_ = blocks;
    const auto count = static_cast<std::size_t>(blocks);
    pointers_.assign(static_cast<std::size_t>(tasks_) * count, nullptr);
    views_.resize(pointers_.size());
    present_.assign(pointers_.size(), false);
    lengths_.assign(count, 0);
    dtypes_.assign(count, DType::float32);
    reference_.assign(count, -1);
  }

  void add_tensor(std::int64_t task, std::int64_t block, py::handle tensor) {
    if (!reader_.is_tensor(tensor)) {
      throw py::type_error(name(task, block) + ": expected a tensor or None, got " +
                           py::str(py::type::handle_of(tensor)).cast<std::string>());
    }
    const auto entry = static_cast<std::size_t>(task * blocks_ + block);
    auto& view = views_[entry];
    if (!reader_.read(tensor, view)) {
      irregular_.emplace_back(task, block);
      return;
    }
    if (!view.dtype) {
      throw py::type_error(name(task, block) + ": dtype " +
                           py::str(tensor.attr("dtype")).cast<std::string>() +
                           " is not supported; use float32, float64, bfloat16 or float16");
    }
    check_device(task, block, view, tensor);
    const auto count = element_count(view.shape);
    if (count > 0 && view.data == nullptr) {
      throw py::value_error(name(task, block) + ": the tensor has no memory of its own");
    }
    present_[entry] = true;
    tensors_.push_back(py::reinterpret_borrow<py::object>(tensor));
    check_block(task, block, view, count);
    pointers_[entry] = count > 0 ? view.data : nullptr;
  }

  void check_device(std::int64_t task, std::int64_t block, const TensorView& view,
                    py::handle tensor) {
    if (view.device && device_.value_or(*view.device) == *view.device) {
      device_ = view.device;
      return;
    }
    const auto found =
        name(task, block) + ": device " + py::str(tensor.attr("device")).cast<std::string>();
    if (!view.device) {
      throw py::value_error(found + " is not supported by this build; move the model to the CPU");
    }
    const auto other = *device_ < 0 ? "the CPU" : "cuda:" + std::to_string(*device_);
    throw py::value_error(found + ", but the tensors before it are on " + other +
                          "; all gradients must be on one device");
  }

  void check_block(std::int64_t task, std::int64_t block, const TensorView& view,
                   std::int64_t count) {
    const auto b = static_cast<std::size_t>(block);
    auto& reference = reference_[b];
    if (reference < 0) {
      reference = task;
      lengths_[b] = count;
      dtypes_[b] = *view.dtype;
      return;
    }
    const auto& first = views_[static_cast<std::size_t>(reference * blocks_ + block)];
    if (!std::ranges::equal(view.shape, first.shape)) {
      throw py::value_error(name(task, block) + ": its shape differs from " +
                            name(reference, block) + "; one block has one shape in all tasks");
    }
    if (view.dtype != first.dtype) {
      throw py::type_error(name(task, block) + ": its dtype differs from " +
                           name(reference, block) + "; one block has one dtype in all tasks");
    }
  }

  // The layout of a block is that of its first dense tensor.
  void mark_layouts() {
    layouts_.resize(lengths_.size());
    for (std::int64_t block = 0; block < blocks_; ++block) {
      const TensorView* layout = nullptr;
      for (std::int64_t task = 0; task < tasks_; ++task) {
        const auto entry = static_cast<std::size_t>(task * blocks_ + block);
        if (!present_[entry] || lengths_[static_cast<std::size_t>(block)] == 0) continue;
        const auto& view = views_[entry];
        const bool dense = is_dense(view);
        if (dense && layout == nullptr) layout = &view;
        if (!dense || !same_layout(view, *layout)) irregular_.emplace_back(task, block);
      }
      if (layout != nullptr) layouts_[static_cast<std::size_t>(block)] = *layout;
    }
    views_.clear();
  }

  TensorReader reader_;
  std::vector<py::object> tensors_;  // whose memory the pointers show
  std::optional<int> device_;
  std::int64_t tasks_ = 0;
  std::int64_t blocks_ = 0;
  std::vector<void*> pointers_;
  std::vector<std::int64_t> lengths_;
  std::vector<DType> dtypes_;
  std::vector<std::int64_t> reference_;  // first task that has the block, −1: none
  std::vector<TensorView> views_;
  std::vector<TensorView> layouts_;  // of the blocks; without memory where none is dense
  std::vector<bool> present_;
  std::vector<std::pair<std::int64_t, std::int64_t>> irregular_;
};

}  // namespace pyfront
