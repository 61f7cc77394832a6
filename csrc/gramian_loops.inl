// The loops of GramianKernels for one instruction set: included by gramian_<set>.cpp inside an
// anonymous namespace, after its `Simd`. Those files are compiled for different instruction sets,
// so nothing here may call an inline function of the standard library: the linker could keep the
// version that other machines cannot run.

using Vector = Simd::Vector;

// Asks for memory that the next panel reads; an address behind the block does no harm.
void prefetch(const void* address, std::int64_t offset) {
  const auto target =
      reinterpret_cast<std::uintptr_t>(address) + static_cast<std::uintptr_t>(offset);
  __builtin_prefetch(reinterpret_cast<const void*>(target), 0, 2);
}

template <class T>
void widen(const void* source, std::int64_t count, double* out) {
  const T* x = static_cast<const T*>(source);
  std::int64_t k = 0;
  for (; k + Simd::lanes <= count; k += Simd::lanes) Simd::store(out + k, Simd::load(x + k));
  if (k == count) return;
  const auto rest = static_cast<std::size_t>(count - k);
  alignas(64) T tail[Simd::lanes] = {};
  alignas(64) double wide[Simd::lanes];
  __builtin_memcpy(tail, x + k, rest * sizeof(T));
  Simd::store(wide, Simd::load(tail));
  __builtin_memcpy(out + k, wide, rest * sizeof(double));
}

double* sums_of(double* sums, std::int64_t i, std::int64_t j) {
  return sums + sum_lanes * pair_index(i, j);
}

// Products among R rows, lower triangle, from C[first][first] on. With `keep` the rows are widened
// into `wide` on the way. Row i prefetches `ahead[i]` bytes further.
template <class T, int R, bool keep>
void diagonal_tile(const T* const* rows, std::int64_t count, std::int64_t first, double* sums,
                   const std::int64_t* ahead, double* wide) {
  for (std::int64_t lane = 0; lane < sum_lanes; lane += Simd::lanes) {
    Vector s[R][R];
    for (int i = 0; i < R; ++i)
      for (int j = 0; j <= i; ++j) s[i][j] = Simd::load(sums_of(sums, first + i, first + j) + lane);
    for (std::int64_t k = lane; k < count; k += sum_lanes) {
      Vector v[R];
      for (int i = 0; i < R; ++i) {
        prefetch(rows[i] + k, ahead[i]);
        v[i] = Simd::load(rows[i] + k);
        if constexpr (keep) Simd::store(wide + i * panel_stride + k, v[i]);
        for (int j = 0; j <= i; ++j) s[i][j] = Simd::fma(v[i], v[j], s[i][j]);
      }
    }
    for (int i = 0; i < R; ++i)
      for (int j = 0; j <= i; ++j) Simd::store(sums_of(sums, first + i, first + j) + lane, s[i][j]);
  }
}

// Products of R rows with S earlier ones, from C[row][column] on; prefetches `step` bytes further
// with every step.
template <class T, int R, int S>
void inner_tile(const T* const* rows, const T* const* columns, std::int64_t count, std::int64_t row,
                std::int64_t column, double* sums, const void* ahead, std::int64_t step) {
  for (std::int64_t lane = 0; lane < sum_lanes; lane += Simd::lanes) {
    Vector s[R][S];
    for (int i = 0; i < R; ++i)
      for (int j = 0; j < S; ++j) s[i][j] = Simd::load(sums_of(sums, row + i, column + j) + lane);
    for (std::int64_t k = lane; k < count; k += sum_lanes) {
      prefetch(ahead, k * step);
      Vector v[S];
      for (int j = 0; j < S; ++j) v[j] = Simd::load(columns[j] + k);
      for (int i = 0; i < R; ++i) {
        const Vector u = Simd::load(rows[i] + k);
        for (int j = 0; j < S; ++j) s[i][j] = Simd::fma(u, v[j], s[i][j]);
      }
    }
    for (int i = 0; i < R; ++i)
      for (int j = 0; j < S; ++j) Simd::store(sums_of(sums, row + i, column + j) + lane, s[i][j]);
  }
}

// Rows [first, first + R) against themselves and all rows before them. The loads of the next panel
// are spread over the tiles: one row a tile, what is left in the diagonal one; few rows stream
// through so fast that the processor's own prefetching is better.
template <class T, int R, bool keep>
void band(const T* const* rows, std::int64_t tasks, std::int64_t count, std::int64_t first,
          double* panel, double* sums) {
  constexpr int columns = Simd::tile_columns;
  constexpr std::int64_t next_panel = panel_width * std::int64_t{sizeof(T)};
  const T* const* own = rows + first;
  const std::int64_t tiles = first / columns;
  std::int64_t ahead[R];
  for (int i = 0; i < R; ++i) ahead[i] = i < tiles || tasks <= row_tile ? 0 : next_panel;
  diagonal_tile<T, R, keep>(own, count, first, sums, ahead, panel + first * panel_stride);
  for (std::int64_t t = 0; t < tiles; ++t) {
    const std::int64_t column = t * columns;
    const void* next = t < R ? own[t] + panel_width : own[0];
    const std::int64_t step = t < R ? sizeof(T) : 0;
    if constexpr (keep) {
      const double* x[R];
      const double* y[columns];
      for (int i = 0; i < R; ++i) x[i] = panel + (first + i) * panel_stride;
      for (int j = 0; j < columns; ++j) y[j] = panel + (column + j) * panel_stride;
      inner_tile<double, R, columns>(x, y, count, first, column, sums, next, step);
    } else {
      inner_tile<T, R, columns>(own, rows + column, count, first, column, sums, next, step);
    }
  }
}

template <class T, bool keep>
void add_bands(const T* const* rows, std::int64_t tasks, std::int64_t count, double* panel,
               double* sums) {
  for (std::int64_t row = 0; row < tasks; row += row_tile) {
    switch (tasks - row) {
      case 1:
        band<T, 1, keep>(rows, tasks, count, row, panel, sums);
        break;
      case 2:
        band<T, 2, keep>(rows, tasks, count, row, panel, sums);
        break;
      case 3:
        band<T, 3, keep>(rows, tasks, count, row, panel, sums);
        break;
      default:
        band<T, 4, keep>(rows, tasks, count, row, panel, sums);
    }
  }
}

// Widening once pays where a row meets many others: storing costs more than a few conversions.
template <class T>
void add_products(const void* const* sources, std::int64_t tasks, std::int64_t count, double* panel,
                  double* sums) {
  constexpr std::int64_t few = 2 * row_tile;
  const auto* rows = reinterpret_cast<const T* const*>(sources);
  if (sizeof(T) < sizeof(double) && tasks > few) {
    add_bands<T, sizeof(T) < sizeof(double)>(rows, tasks, count, panel, sums);
  } else {
    add_bands<T, false>(rows, tasks, count, panel, sums);
  }
}

// Part of d that is summed in one go: at most panel_width elements.
template <class T>
struct Strip {
  std::int64_t count;
  double* sums;
  T* out;
  bool streaming;      // write `out` past the caches
  std::int64_t ahead;  // bytes to the elements to prefetch
};

// Adds R tasks to a strip; the first group starts the sums, the last one rounds them.
template <class T, int R>
void add_weighted(const T* const* rows, const double* weights, const Strip<T>& strip, bool first,
                  bool last) {
  Vector w[R];
  for (int j = 0; j < R; ++j) w[j] = Simd::broadcast(weights[j]);
  const auto start = [&](std::int64_t k) {
    return first ? Simd::broadcast(0.0) : Simd::load(strip.sums + k);
  };
  std::int64_t k = 0;
  for (; k + Simd::lanes <= strip.count; k += Simd::lanes) {
    Vector s = start(k);
    for (int j = 0; j < R; ++j) {
      prefetch(rows[j] + k, strip.ahead);
      s = Simd::fma(w[j], Simd::load(rows[j] + k), s);
    }
    if (!last) {
      Simd::store(strip.sums + k, s);
    } else if (strip.streaming) {
      Simd::stream(strip.out + k, s);
    } else {
      Simd::store(strip.out + k, s);
    }
  }
  if (k == strip.count) return;
  const auto rest = static_cast<std::size_t>(strip.count - k) * sizeof(T);
  alignas(64) T tail[R][Simd::lanes] = {};
  Vector s = start(k);
  for (int j = 0; j < R; ++j) {
    __builtin_memcpy(tail[j], rows[j] + k, rest);
    s = Simd::fma(w[j], Simd::load(tail[j]), s);
  }
  if (!last) return Simd::store(strip.sums + k, s);
  Simd::store(tail[0], s);
  __builtin_memcpy(strip.out + k, tail[0], rest);
}

template <class T>
void weighted_sum(const void* const* sources, const double* weights, std::int64_t tasks,
                  std::int64_t count, void* out, bool streaming) {
  alignas(64) double sums[panel_width];
  const auto* rows = reinterpret_cast<const T* const*>(sources);
  const Strip<T> strip{.count = count,
                       .sums = sums,
                       .out = static_cast<T*>(out),
                       .streaming = streaming,
                       .ahead = tasks <= row_tile ? 0 : panel_width * std::int64_t{sizeof(T)}};
  for (std::int64_t j = 0; j < tasks; j += row_tile) {
    const bool first = j == 0;
    const bool last = j + row_tile >= tasks;
    switch (tasks - j) {
      case 1:
        add_weighted<T, 1>(rows + j, weights + j, strip, first, last);
        break;
      case 2:
        add_weighted<T, 2>(rows + j, weights + j, strip, first, last);
        break;
      case 3:
        add_weighted<T, 3>(rows + j, weights + j, strip, first, last);
        break;
      default:
        add_weighted<T, 4>(rows + j, weights + j, strip, first, last);
    }
  }
  if (streaming) Simd::fence();
}

template <class T>
struct Type {
  using type = T;
};

// Calls f with the element type of `dtype`.
template <class F>
void with_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::float32:
      return f(Type<float>{});
    case DType::float64:
      return f(Type<double>{});
    case DType::bfloat16:
      return f(Type<BFloat16>{});
    case DType::float16:
      return f(Type<Float16>{});
  }
}

constexpr GramianKernels kernels{
    .name = Simd::name,
    .widen =
        [](const void* source, DType dtype, std::int64_t count, double* out) {
          with_type(dtype, [&](auto t) { widen<typename decltype(t)::type>(source, count, out); });
        },
    .add_products =
        [](const void* const* rows, DType dtype, std::int64_t tasks, std::int64_t count,
           double* panel, double* sums) {
          with_type(dtype, [&](auto t) {
            add_products<typename decltype(t)::type>(rows, tasks, count, panel, sums);
          });
        },
    .weighted_sum =
        [](const void* const* rows, DType dtype, const double* weights, std::int64_t tasks,
           std::int64_t count, void* out, bool streaming) {
          with_type(dtype, [&](auto t) {
            weighted_sum<typename decltype(t)::type>(rows, weights, tasks, count, out, streaming);
          });
        }};
