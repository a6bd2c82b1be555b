//! An operator's client: it asks a member past the crate, by frames of its own.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
};

/// An operator's client, one request at a time.
pub(crate) struct Admin {
    stream: Mutex<TcpStream>,
    partitions: u32,
}

/// A frame: its flags and its content.
pub(crate) type Frame = (u16, Vec<u8>);

/// Who has a fenced lock, as the CP Subsystem has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) fence: i64,
    pub(crate) count: i32,
    pub(crate) session: i64,
    pub(crate) thread: i64,
}

const IS_FINAL: u16 = 0x2000;
const BEGIN: u16 = 0x1000;
const END: u16 = 0x0800;
const IS_NULL: u16 = 0x0400;

/// A text as a key or a value.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xf5], &length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// The text in a key or a value.
pub(crate) fn text_in(data: &[u8]) -> String {
    String::from_utf8(data[12..].to_vec()).unwrap()
}

fn var(content: impl Into<Vec<u8>>) -> Frame {
    (0, content.into())
}

impl Admin {
    pub(crate) async fn connect(address: &str, cluster: &str) -> Self {
        let stream = TcpStream::connect(address).await;
        let mut stream = stream.unwrap_or_else(|err| panic!("no member at {address}: {err}"));
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"CP2").await.unwrap();
        let mut id = [0; 16];
        getrandom::fill(&mut id).unwrap();
        let fixed = [&[0][..], &id, &[1]].concat();
        let null = || (IS_NULL, Vec::new());
        let names = ["GLK", "5.4.0", "admin"].map(var);
        let mut vars = vec![var(cluster), null(), null()];
        vars.extend(names);
        vars.extend([(BEGIN, Vec::new()), (END, Vec::new())]);
        let mut admin = Self { stream: Mutex::new(stream), partitions: 271 };
        let reply = admin.ask(0x0000_0100, -1, &fixed, vars).await;
        assert_eq!(reply[0].1[13], 0, "the member refuses the operator");
        admin.partitions = u32::from_le_bytes(*reply[0].1[32..].first_chunk().unwrap());
        admin
    }

    /// The frames of the reply, which is no error.
    async fn ask(&self, kind: i32, partition: i32, fixed: &[u8], vars: Vec<Frame>) -> Vec<Frame> {
        let reply = self.try_ask(kind, partition, fixed, vars).await;
        let text = || String::from_utf8_lossy(&reply[4].1).into_owned();
        let found = i32::from_le_bytes(*reply[0].1.first_chunk().unwrap());
        assert_eq!(found, kind + 1, "{}", text());
        reply
    }

    async fn try_ask(
        &self,
        kind: i32,
        partition: i32,
        fixed: &[u8],
        vars: Vec<Frame>,
    ) -> Vec<Frame> {
        let first =
            [&kind.to_le_bytes()[..], &7_i64.to_le_bytes(), &partition.to_le_bytes(), fixed]
                .concat();
        let mut frames = vec![(0xc000, first)];
        frames.extend(vars);
        frames.last_mut().unwrap().0 |= IS_FINAL;
        let mut bytes = Vec::new();
        for (flags, content) in frames {
            bytes.extend_from_slice(&u32::try_from(content.len() + 6).unwrap().to_le_bytes());
            bytes.extend_from_slice(&flags.to_le_bytes());
            bytes.extend_from_slice(&content);
        }
        let mut stream = self.stream.lock().await;
        stream.write_all(&bytes).await.unwrap();
        let mut reply = Vec::new();
        loop {
            let mut header = [0; 6];
            stream.read_exact(&mut header).await.unwrap();
            let length = u32::from_le_bytes(*header.first_chunk().unwrap());
            let mut content = vec![0; usize::try_from(length).unwrap() - 6];
            stream.read_exact(&mut content).await.unwrap();
            let flags = u16::from_le_bytes([header[4], header[5]]);
            reply.push((flags, content));
            if flags & IS_FINAL != 0 {
                return reply;
            }
        }
    }

    async fn on_key(&self, kind: i32, fixed: &[i64], map: &str, key: &str) -> Vec<Frame> {
        let fixed: Vec<u8> = fixed.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.ask(kind, self.partition(key), &fixed, vec![var(map), var(text(key))]).await
    }

    fn partition(&self, key: &str) -> i32 {
        let hash = murmur3(&text(key)[8..]).cast_signed().unsigned_abs();
        i32::try_from(hash % self.partitions).unwrap()
    }

    pub(crate) async fn is_locked(&self, map: &str, key: &str) -> bool {
        self.on_key(0x0001_1200, &[], map, key).await[0].1[13] != 0
    }

    /// Locks a key as another program does, for 30 s.
    pub(crate) async fn try_lock(&self, map: &str, key: &str, thread: i64) -> bool {
        self.on_key(0x0001_1100, &[thread, 30_000, 0, thread + 1], map, key).await[0].1[13] != 0
    }

    pub(crate) async fn set(&self, map: &str, key: &str, value: &str) {
        let (data, value) = (text(key), text(value));
        let fixed = [1_i64.to_le_bytes(), 0_i64.to_le_bytes()].concat();
        let vars = vec![var(map), var(data), var(value)];
        self.ask(0x0001_0f00, self.partition(key), &fixed, vars).await;
    }

    pub(crate) async fn force_unlock(&self, map: &str, key: &str) {
        let mut reference = [0; 8];
        getrandom::fill(&mut reference).unwrap();
        self.on_key(0x0001_3300, &[i64::from_le_bytes(reference) | 1], map, key).await;
    }

    pub(crate) async fn get(&self, map: &str, key: &str) -> Option<String> {
        let (flags, data) = self.on_key(0x0001_0200, &[1], map, key).await.swap_remove(1);
        (flags & IS_NULL == 0).then(|| text_in(&data))
    }

    pub(crate) async fn delete(&self, map: &str, key: &str) {
        self.on_key(0x0001_0900, &[1], map, key).await;
    }

    pub(crate) async fn keys(&self, map: &str) -> Vec<String> {
        let reply = self.ask(0x0001_2200, -1, &[], vec![var(map)]).await;
        let data = reply[1..].iter().filter(|(flags, _)| flags & (BEGIN | END) == 0);
        data.map(|(_, data)| text_in(data)).collect()
    }

    /// The frames that name the CP group of a lock, and its name.
    pub(crate) async fn group(&self, lock: &str) -> Vec<Frame> {
        let reply = self.ask(0x001e_0100, -1, &[], vec![var(lock)]).await;
        reply[1..].iter().map(|(flags, content)| (flags & !IS_FINAL, content.clone())).collect()
    }

    pub(crate) async fn ownership(&self, group: &[Frame], lock: &str) -> Ownership {
        let vars = group.iter().cloned().chain([var(lock)]).collect();
        let reply = self.ask(0x0007_0400, -1, &[], vars).await;
        let long = |at: usize| i64::from_le_bytes(*reply[0].1[at..].first_chunk().unwrap());
        let count = i32::from_le_bytes(*reply[0].1[21..].first_chunk().unwrap());
        Ownership { fence: long(13), count, session: long(25), thread: long(33) }
    }

    /// Closes a CP session. Returns whether it was open.
    pub(crate) async fn close_session(&self, group: &[Frame], session: i64) -> bool {
        let reply = self.ask(0x001f_0200, -1, &session.to_le_bytes(), group.to_vec()).await;
        reply[0].1[13] != 0
    }

    /// Ends a hold of a fenced lock in its owner's name.
    pub(crate) async fn unlock(&self, group: &[Frame], lock: &str) {
        loop {
            let owner = self.ownership(group, lock).await;
            if owner.fence == 0 {
                return;
            }
            let mut fixed = [owner.session.to_le_bytes(), owner.thread.to_le_bytes()].concat();
            let mut invocation = [0; 17];
            getrandom::fill(&mut invocation[1..]).unwrap();
            fixed.extend(invocation);
            let vars = group.iter().cloned().chain([var(lock)]).collect();
            // It may be gone by now.
            self.try_ask(0x0007_0300, -1, &fixed, vars).await;
        }
    }

    /// The names of all fenced locks that were ever used in a group.
    pub(crate) async fn fenced_locks(&self, group: &[Frame]) -> Vec<String> {
        let service = var("hz:raft:lockService");
        let vars: Vec<Frame> = group.iter().cloned().chain([service]).collect();
        // A member that changes them meanwhile replies with an error.
        let reply = loop {
            let reply = self.try_ask(0x0022_0600, -1, &[0], vars.clone()).await;
            if reply[0].1[..4] != [0; 4] {
                break reply;
            }
        };
        let names = reply[1..].iter().filter(|(flags, _)| flags & (BEGIN | END) == 0);
        names.map(|(_, name)| String::from_utf8(name.clone()).unwrap()).collect()
    }
}

/// `MurmurHash3` for 32 bits, with Hazelcast's seed.
fn murmur3(bytes: &[u8]) -> u32 {
    let mix =
        |block: u32| block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let word = |part: &[u8]| part.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    let mut hash = 0x0100_0193_u32;
    let chunks = bytes.chunks_exact(4);
    let rest = chunks.remainder();
    for block in chunks {
        hash = (hash ^ mix(word(block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    hash ^= mix(word(rest)) ^ u32::try_from(bytes.len()).unwrap();
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}
