// SPDX-License-Identifier: Apache-2.0
//
// ThreadSanitizer does not see what the Synchronization module's Mutex orders, since the standard library is not built with it;
// it knows pthread's. In its build (MMFREED_SANITIZER=thread) this stands before the library's Mutex in every room that has a
// link to this file.
#if THREAD_SANITIZER
    import Glibc

    struct Mutex<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
        private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        private let value = UnsafeMutablePointer<Value>.allocate(capacity: 1)

        init(_ initialValue: consuming sending Value) {
            value.initialize(to: initialValue)
            pthread_mutex_init(lock, nil)
        }

        deinit {
            pthread_mutex_destroy(lock)
            lock.deallocate()
            value.deinitialize(count: 1)
            value.deallocate()
        }

        borrowing func withLock<Result: ~Copyable, E: Error>(
            _ body: (inout sending Value) throws(E) -> sending Result
        ) throws(E) -> sending Result {
            pthread_mutex_lock(lock)
            defer { pthread_mutex_unlock(lock) }
            return try body(&value.pointee)
        }
    }
#endif
