// Sharing work out among threads, and memory that is needed while it is done.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

// Threads that belong to someone else: XLA, or a test.
class Pool {
 public:
  virtual ~Pool() = default;
  virtual int threads() const = 0;  // that run at the same time
  virtual void schedule(std::function<void()> task) = 0;
};

// Calls work(item, worker) for each item once and returns when all are done; 0 <= worker < pool.threads(), and a worker
// does one item at a time. The caller works too, so this comes to an end even if no other thread ever turns up: one
// that is late finds nothing left to do.
template <class Work> void share(Pool &pool, int items, Work &&work) {
  struct Job {
    std::atomic<int> next{0}, done{0};
    int items = 0;
    std::function<void(int, int)> work;
    std::mutex mutex;
    std::condition_variable finished;
    void run(int worker) {
      int mine = 0;
      for (int item; (item = next.fetch_add(1)) < items; mine++) work(item, worker);
      if (mine && done.fetch_add(mine) + mine == items) {
        std::lock_guard<std::mutex> lock(mutex);
        finished.notify_all();
      }
    }
  };
  int workers = pool.threads() < items ? pool.threads() : items;
  if (workers <= 1) {
    for (int item = 0; item < items; item++) work(item, 0);
    return;
  }
  auto job = std::make_shared<Job>();
  job->items = items;
  job->work = [&work](int item, int worker) { work(item, worker); };
  for (int worker = 1; worker < workers; worker++) pool.schedule([job, worker] { job->run(worker); });
  job->run(0);
  for (int i = 0; i < 2000 && job->done.load() < items; i++) __asm__ volatile("" ::: "memory");
  std::unique_lock<std::mutex> lock(job->mutex);
  job->finished.wait(lock, [&] { return job->done.load() >= items; });
}

// Memory for as long as this lives, aligned for any vector.
class Memory {
 public:
  explicit Memory(size_t bytes) : at_(std::aligned_alloc(64, (bytes + 127) / 64 * 64)) {
    if (!at_) throw std::bad_alloc();
  }
  ~Memory() { std::free(at_); }
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;
  template <class T> T *as() const { return static_cast<T *>(at_); }

 private:
  void *at_;
};

// One for each worker, made when it is first asked for.
class Scratch {
 public:
  Scratch(Pool &pool, size_t bytes) : bytes_(bytes), of_(pool.threads() > 1 ? pool.threads() : 1) {}
  void *of(int worker) {
    if (!of_[worker]) of_[worker] = std::make_unique<Memory>(bytes_);
    return of_[worker]->as<void>();
  }

 private:
  size_t bytes_;
  std::vector<std::unique_ptr<Memory>> of_;
};
