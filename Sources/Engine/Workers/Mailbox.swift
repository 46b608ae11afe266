// SPDX-License-Identifier: Apache-2.0

import Glibc

/// The one way into a thread that computes. Anybody posts; the thread sleeps while there is nothing.
package final class Mailbox<Message: Sendable>: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var messages: [Message] = []

    package init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    package func post(_ message: Message) {
        pthread_mutex_lock(mutex)
        messages.append(message)
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Everything posted since the last call.
    ///
    /// - Parameter until: how long to wait for something, on CLOCK_MONOTONIC in nanoseconds; 0 not at all, `nil` for ever.
    package func drain(until: UInt64?) -> [Message] {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        if let until {
            var time = timespec(
                tv_sec: Int(until / 1_000_000_000), tv_nsec: Int(until % 1_000_000_000))
            while messages.isEmpty, until > 0,
                pthread_cond_timedwait(condition, mutex, &time) != ETIMEDOUT
            {}
        } else {
            while messages.isEmpty { pthread_cond_wait(condition, mutex) }
        }
        defer { messages.removeAll(keepingCapacity: true) }
        return messages
    }
}
