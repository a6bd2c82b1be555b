// The official Java client doing what glock does, for benches/beside_java.rs: reads what to do from standard
// input, a line each, and replies with a number.

import com.hazelcast.client.HazelcastClient;
import com.hazelcast.client.config.ClientConfig;
import com.hazelcast.core.HazelcastInstance;
import com.hazelcast.cp.lock.FencedLock;
import com.hazelcast.map.IMap;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

public final class JavaClient {
    private static final long HOLD_MILLIS = 8;

    private final IMap<String, String> locks;
    private final IMap<String, String> records;
    private final FencedLock fenced;

    private JavaClient(HazelcastInstance client, String name) {
        locks = client.getMap(name);
        records = client.getMap(name + "#fence");
        fenced = client.getCPSubsystem().getLock(name);
    }

    private static void check(boolean done) {
        if (!done) {
            throw new IllegalStateException("another one has the lock");
        }
    }

    private void lock(String key, long waitSeconds) throws InterruptedException {
        check(locks.tryLock(key, waitSeconds, TimeUnit.SECONDS, 60, TimeUnit.SECONDS));
    }

    // The same writes as glock's: the lock with a lease, and the next fence by compare-and-set.
    private void lockWithFence(String key, long waitSeconds) throws InterruptedException {
        lock(key, waitSeconds);
        String last = records.get(key);
        if (last == null) {
            check(records.putIfAbsent(key, "1") == null);
        } else {
            check(records.replace(key, last, Long.toString(Long.parseLong(last) + 1)));
        }
    }

    private void mapPair(String key) throws InterruptedException {
        lockWithFence(key, 0);
        locks.unlock(key);
    }

    private void barePair() throws InterruptedException {
        lock("bare", 0);
        locks.unlock("bare");
    }

    private void cpPair() {
        check(fenced.tryLockAndGetFence(0, TimeUnit.SECONDS) != FencedLock.INVALID_FENCE);
        fenced.unlock();
    }

    private interface Pair {
        void run() throws Exception;
    }

    // Nanoseconds for that many pairs.
    private static long timed(int pairs, Pair pair) throws Exception {
        long since = System.nanoTime();
        for (int n = 0; n < pairs; n++) {
            pair.run();
        }
        return System.nanoTime() - since;
    }

    // Nanoseconds from a release to the grant of the thread that is parked.
    private long handOver() throws Exception {
        AtomicLong grantedAt = new AtomicLong();
        CountDownLatch ready = new CountDownLatch(1);
        lockWithFence("hand", 0);
        Thread waiter = new Thread(() -> {
            try {
                ready.countDown();
                lockWithFence("hand", 30);
                grantedAt.set(System.nanoTime());
                locks.unlock("hand");
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        });
        waiter.start();
        ready.await();
        Thread.sleep(HOLD_MILLIS);
        long releasedAt = System.nanoTime();
        locks.unlock("hand");
        waiter.join();
        return grantedAt.get() - releasedAt;
    }

    // Pairs of that many threads in that time.
    private long throughput(int threads, long millis) throws InterruptedException {
        AtomicLong pairs = new AtomicLong();
        long end = System.nanoTime() + millis * 1_000_000;
        List<Thread> started = new ArrayList<>();
        for (int n = 0; n < threads; n++) {
            String key = "many" + n;
            Thread thread = new Thread(() -> {
                try {
                    while (System.nanoTime() < end) {
                        mapPair(key);
                        pairs.incrementAndGet();
                    }
                } catch (InterruptedException e) {
                    throw new IllegalStateException(e);
                }
            });
            thread.start();
            started.add(thread);
        }
        for (Thread thread : started) {
            thread.join();
        }
        return pairs.get();
    }

    public static void main(String[] arguments) throws Exception {
        ClientConfig config = new ClientConfig();
        config.setProperty("hazelcast.logging.type", "none");
        config.getNetworkConfig().addAddress(arguments[0]);
        HazelcastInstance client = HazelcastClient.newHazelcastClient(config);
        JavaClient java = new JavaClient(client, arguments[1]);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.split(" ");
            int count = Integer.parseInt(words[1]);
            switch (words[0]) {
                case "map": System.out.println(timed(count, () -> java.mapPair("x"))); break;
                case "bare": System.out.println(timed(count, java::barePair)); break;
                case "cp": System.out.println(timed(count, java::cpPair)); break;
                case "hand-over": System.out.println(java.handOver()); break;
                case "throughput": System.out.println(java.throughput(64, count)); break;
                default: throw new IllegalArgumentException(line);
            }
        }
        client.shutdown();
    }
}
