//! `Raw`: the same writes with the driver alone.

/// The same writes by hand: what an engineer would type with the driver alone.
pub trait Raw: Clone + Send + Sync + 'static {
    /// What a release needs to know of its acquire.
    type Grant: Send;
    /// A subscription to the releases of one lock.
    type Listener: Send;

    /// One try; panics if it is refused.
    fn acquire(&self, name: &str) -> impl Future<Output = Self::Grant> + Send;

    /// One release, which notifies the listeners.
    fn release(&self, name: &str, grant: Self::Grant) -> impl Future<Output = ()> + Send;

    /// Listens for releases of `name` from when it returns.
    fn listen(&self, name: &str) -> impl Future<Output = Self::Listener> + Send;

    /// Returns at the next release.
    fn released(&self, listener: &mut Self::Listener) -> impl Future<Output = ()> + Send;
}
