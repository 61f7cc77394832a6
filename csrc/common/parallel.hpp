#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

namespace pyfront {

// Calls body(worker, item) once for every item in [0, items), on at most `workers` threads of which
// the caller is one. Who takes which item is left open; `body` must not throw.
template <class Body>
void parallel_for(std::int64_t items, int workers, const Body& body) {
  std::atomic<std::int64_t> next{0};
  const auto work = [&](int worker) noexcept {
    for (auto item = next.fetch_add(1); item < items; item = next.fetch_add(1)) body(worker, item);
  };
  std::vector<std::thread> helpers;
  if (workers > 1) helpers.reserve(static_cast<std::size_t>(workers - 1));
  for (int worker = 1; worker < workers; ++worker) {
    try {
      helpers.emplace_back(work, worker);
    } catch (const std::exception&) {
      break;  // the system gives no more threads: those that run share the items
    }
  }
  work(0);
  for (auto& helper : helpers) helper.join();
}

}  // namespace pyfront
