//! `Instrumented` keeps every promise of the lock inside: the suite passes through it.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use glock_core::{LockConfig, LockId};
use glock_telemetry::Instrumented;
use glock_testing::{Fixture, MemoryLock};
use opentelemetry_sdk::{
    metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider},
    trace::SdkTracerProvider,
};

struct Watched {
    lock: MemoryLock,
    config: LockConfig,
    meters: SdkMeterProvider,
    tracers: SdkTracerProvider,
}

/// One store for all fixtures of a process, as a server would be.
fn store() -> &'static MemoryLock {
    static STORE: std::sync::OnceLock<MemoryLock> = std::sync::OnceLock::new();
    STORE.get_or_init(MemoryLock::new)
}

impl Fixture for Watched {
    type Lock = Instrumented<MemoryLock>;

    async fn open(namespace: String) -> Self {
        let config = LockConfig::default().with_namespace(namespace);
        let lock = store().client().with_config(config.clone()).unwrap();
        let reader = PeriodicReader::builder(InMemoryMetricExporter::default()).build();
        let meters = SdkMeterProvider::builder().with_reader(reader).build();
        Self { lock, config, meters, tracers: SdkTracerProvider::default() }
    }

    fn config(&self) -> LockConfig {
        self.config.clone()
    }

    async fn client_with(&self, config: LockConfig) -> Instrumented<MemoryLock> {
        Instrumented::new(self.lock.client().with_config(config).unwrap())
            .with_meter_provider(&self.meters)
            .with_tracer_provider(&self.tracers)
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        self.lock.owner(id).map(|owner| owner.reveal().to_owned())
    }

    async fn live(&self) -> usize {
        self.lock.held()
    }

    async fn evict(&self, id: &LockId) {
        self.lock.lose(id.as_str()).unwrap();
    }

    async fn forget(&self, id: &LockId) {
        self.lock.lose(id.as_str()).unwrap();
    }
}

glock_testing::contract!(Watched);
glock_testing::admin_contract!(Watched);
