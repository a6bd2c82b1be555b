//! Connections and runtimes that are silent: a firewall that forgot them, a table lock, a busy thread.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use glock_postgres::{Lock, LockExt, PostgresLock, Retry};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{
    LONG, SHORT, SOON,
    admin::{Admin, until_it_listens},
    pair, x,
};

/// Passes everything on, until it forgets the connections that there are: from then on they are mute.
struct Firewall {
    addr: SocketAddr,
    forgotten: tokio::sync::watch::Sender<u64>,
    accepted: Arc<AtomicU64>,
}

impl Firewall {
    async fn open(upstream: (String, u16)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, forgotten) =
            (listener.local_addr().unwrap(), tokio::sync::watch::Sender::new(0));
        let accepted = Arc::<AtomicU64>::default();
        let (sender, count) = (forgotten.clone(), Arc::clone(&accepted));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (mut forgotten, upstream) = (sender.subscribe(), upstream.clone());
                let number = count.fetch_add(1, SeqCst);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(upstream).await.unwrap();
                    let is_forgotten = tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => false,
                        first = forgotten.wait_for(|first| *first > number) => first.is_ok(),
                    };
                    if is_forgotten {
                        // Neither end learns of it.
                        sleep(LONG * 10).await;
                    }
                });
            }
        });
        Self { addr, forgotten, accepted }
    }

    fn forget_all(&self) {
        self.forgotten.send_replace(self.accepted.load(SeqCst));
    }
}

/// Guards of `ttl`, and then a firewall that forgets their client's connections.
async fn through_a_firewall(admin: &Admin) -> (Firewall, PostgresLock) {
    let firewall =
        Firewall::open((admin.options.get_host().to_owned(), admin.options.get_port())).await;
    let options = admin.client_options().host("127.0.0.1").port(firewall.addr.port());
    // The default limit of a call: longer than a third of the leases last.
    let config = admin.config().with_call_timeout(Duration::from_secs(5));
    (firewall, admin.lock_with(options, 10).with_config(config).unwrap())
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_firewall_that_forgets_the_connections_costs_no_lock() {
    let admin = Admin::open().await;
    let (firewall, lock) = through_a_firewall(&admin).await;
    let ttl = Duration::from_secs(6);
    let mut guards = Vec::new();
    for n in 0..12 {
        guards.push(lock.hold(format!("x{n}"), ttl, Retry::NEVER).await.unwrap());
    }
    // Several connections, all of them idle.
    let mut reads = JoinSet::new();
    for _ in 0..4 {
        let lock = lock.clone();
        reads.spawn(async move { while lock.inspect(&x()).await.is_err() {} });
    }
    reads.join_all().await;
    firewall.forget_all();
    sleep(ttl * 2).await;
    for guard in guards {
        assert!(guard.is_valid(), "{:?}", guard.remaining());
        guard.release().await.unwrap();
    }
    pair(&lock).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn no_call_fails_where_new_connections_work() {
    let admin = Admin::open().await;
    let (firewall, lock) = through_a_firewall(&admin).await;
    // What is silent is not left open on the server either.
    let forget = async || {
        admin.until_connections_at_most(2).await;
        firewall.forget_all();
    };
    for _ in 0..2 {
        pair(&lock).await;
        forget().await;
        pair(&lock).await;
        let lease = lock.acquire(&x(), LONG).await.unwrap();
        forget().await;
        let lease = lock.renew(&lease, LONG).await.unwrap();
        forget().await;
        assert!(lock.inspect(&x()).await.unwrap().is_some());
        forget().await;
        lock.release(&lease).await.unwrap();
    }
    admin.until_connections_at_most(2).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_waiter_whose_listening_connection_is_silent_is_woken_by_the_next_one() {
    let admin = Admin::open().await;
    let (firewall, ours) = through_a_firewall(&admin).await;
    let theirs = admin.lock();
    let held = theirs.acquire(&x(), LONG * 60).await.unwrap();
    let waiter = admin.sleeping_waiter(&ours).await;
    firewall.forget_all();
    sleep(SHORT).await;
    theirs.release(&held).await.unwrap();
    let since = Instant::now();
    timeout(LONG, waiter).await.expect("not woken").unwrap().unwrap();
    assert!(since.elapsed() < LONG);
    admin.clean().await;
}

/// A migration locks the table, while calls go on to come.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn sessions_do_not_pile_up_behind_a_table_lock() {
    let admin = Admin::open().await;
    let config = admin.config().with_call_timeout(Duration::from_secs(2));
    let lock = admin.lock_with(admin.client_options(), 5).with_config(config).unwrap();
    let guard = lock.hold("y", LONG, Retry::NEVER).await.unwrap();
    let locked = admin.transaction("LOCK TABLE {t} IN ACCESS EXCLUSIVE MODE").await;
    let since = Instant::now();
    let mut calls = JoinSet::new();
    while since.elapsed() < Duration::from_secs(8) {
        for n in 0..5 {
            let lock = lock.clone();
            calls.spawn(async move {
                // Half of them are dropped half-way.
                let patience = if n % 2 == 0 { LONG } else { SHORT };
                let _ = timeout(patience, lock.acquire(&x(), LONG)).await;
            });
        }
        sleep(SHORT).await;
        // Those of calls, the one that listens, and those that ask about others.
        let count = admin.connections().await;
        assert!(count <= 8, "{count} sessions");
    }
    calls.join_all().await;
    locked.rollback().await.unwrap();
    let since = Instant::now();
    while lock.acquire(&x(), Duration::from_millis(10)).await.is_err() {
        assert!(since.elapsed() < SOON, "it never recovers");
        sleep(SHORT).await;
    }
    guard.release().await.unwrap();
    assert!(admin.connections().await <= 8);
    admin.clean().await;
}

/// As in actix: each thread has a runtime, and one of them computes.
#[test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
fn a_runtime_that_computes_costs_no_lock_of_another_one() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (ours, ttl) = (runtime(), Duration::from_secs(3));
    let (admin, lock) = ours.block_on(async {
        let admin = Admin::open().await;
        let config = admin.config().with_call_timeout(Duration::from_secs(5));
        let lock = admin.lock().with_config(config).unwrap();
        (admin, lock)
    });
    let (first, (ready, computes)) = (lock.clone(), std::sync::mpsc::channel());
    let (over, until_over) = std::sync::mpsc::channel::<()>();
    let busy = thread::spawn(move || {
        let runtime = runtime();
        runtime.block_on(async {
            pair(&first).await;
            until_it_listens(&first).await;
            ready.send(()).unwrap();
            // No await: neither timers nor sockets of this runtime are looked at.
            let _ = until_over.recv();
        });
    });
    computes.recv().unwrap();
    ours.block_on(async {
        let guard = lock.hold("y", ttl, Retry::NEVER).await.unwrap();
        let theirs = admin.lock();
        let held = theirs.acquire(&x(), LONG * 60).await.unwrap();
        let waiting = tokio::spawn({
            let lock = lock.clone();
            async move { lock.hold("x", LONG, Retry::within(LONG)).await.map(drop) }
        });
        sleep(ttl).await;
        theirs.release(&held).await.unwrap();
        waiting.await.unwrap().unwrap();
        assert!(guard.is_valid());
        drop(over);
        guard.release().await.unwrap();
        busy.join().unwrap();
        admin.clean().await;
    });
}
