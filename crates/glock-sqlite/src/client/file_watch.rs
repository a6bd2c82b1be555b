//! `FileWatch`: how the system notifies of a file that another process has touched.

#[cfg(target_os = "linux")]
pub(crate) use self::linux::FileWatch;
#[cfg(not(target_os = "linux"))]
pub(crate) use self::none::FileWatch;

/// inotify: a user has 128 of them unless the system says otherwise.
#[cfg(target_os = "linux")]
mod linux {
    use std::{io, mem::MaybeUninit, os::fd::OwnedFd, path::Path};

    use rustix::{
        fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
        io::Errno,
    };
    use tokio::io::unix::AsyncFd;

    /// Room for some events; the rest are read next.
    const BUFFER: usize = 1024;
    /// The file was deleted or replaced.
    const GONE: ReadFlags =
        ReadFlags::IGNORED.union(ReadFlags::DELETE_SELF).union(ReadFlags::MOVE_SELF);

    /// Notices when the file at a path is touched.
    #[derive(Debug)]
    pub(crate) struct FileWatch(AsyncFd<OwnedFd>);

    impl FileWatch {
        /// An error where the system has no more of these to give.
        pub(crate) fn new(path: &Path) -> io::Result<Self> {
            let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            let flags = WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
            inotify::add_watch(&watch, path, flags)?;
            #[allow(
                deprecated,
                reason = "its successor is unsafe, for types that close their descriptor; this one does not"
            )]
            let watch = AsyncFd::new(watch)?;
            Ok(Self(watch))
        }

        /// Returns once the file was touched since the last call. An error once it is gone.
        pub(crate) async fn touched(&mut self) -> io::Result<()> {
            loop {
                let mut ready = self.0.readable().await?;
                match ready.try_io(|watch| read(watch.get_ref())) {
                    Ok(read) => return read,
                    Err(_nothing_yet) => {}
                }
            }
        }
    }

    /// Reads all events that there are.
    fn read(watch: &OwnedFd) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(watch, &mut buffer);
        let (mut events, mut is_gone) = (0_u32, false);
        loop {
            match reader.next() {
                Ok(event) => is_gone |= event.events().intersects(GONE),
                Err(Errno::WOULDBLOCK) if events == 0 => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(Errno::WOULDBLOCK) if is_gone => return Err(io::ErrorKind::NotFound.into()),
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(err) => return Err(err.into()),
            }
            events += 1;
        }
    }
}

/// Elsewhere than on Linux, SQLite is asked for changes.
#[cfg(not(target_os = "linux"))]
mod none {
    use std::{convert::Infallible, io, path::Path};

    /// There is none.
    #[derive(Debug)]
    pub(crate) struct FileWatch(Infallible);

    impl FileWatch {
        pub(crate) fn new(_path: &Path) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) async fn touched(&mut self) -> io::Result<()> {
            match self.0 {}
        }
    }
}
