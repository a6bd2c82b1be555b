//! Fuzzing of all that reads what a member sends: with a fixed seed in every run of the tests, and for as
//! long as wanted by `cargo xtask fuzz hazelcast`.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::{
    assembler::{Assembler, MESSAGE_MAX},
    auth::{self, AUTHENTICATION, Welcome},
    cp::{self, GroupId, Ownership, SessionGrant},
    error::HazelcastError,
    golden::{SAMPLES, bytes},
    golden_admin,
    keys::Keys,
    management::{self, MapConfig},
    map,
    message::Message,
    value,
};

/// What one target is given.
type Target = (&'static str, fn(&mut Random, Vec<u8>));

const TARGETS: [Target; 4] = [
    ("frames", |random, bytes| drop(assemble(random, &bytes))),
    ("fragments", |random, bytes| {
        let bytes = fragmented(random, &bytes);
        drop(assemble(random, &bytes));
    }),
    ("replies", |_, bytes| read(&Message::new(bytes))),
    ("values", |_, bytes| {
        let _ = value::text(&bytes).map(str::len);
    }),
];

/// How many inputs each target gets in every run of the tests.
const FIXED: u32 = 20_000;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Numbers that look random, the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// A real reply, or several, with some of it changed; now and then nothing but noise.
fn input(random: &mut Random) -> Vec<u8> {
    if random.below(16) == 0 {
        return (0..random.below(200)).map(|_| random.byte()).collect();
    }
    let mut input = Vec::new();
    for _ in 0..=random.below(3) {
        let samples = [&SAMPLES[..], &golden_admin::SAMPLES].concat();
        input.extend(bytes(samples[random.below(samples.len())]));
    }
    for _ in 0..random.below(6) {
        change(random, &mut input);
    }
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>) {
    const TELLING: [u8; 9] = [0, 1, 4, 8, 0x10, 0x20, 0x80, 0xc0, 0xff];
    let at = random.below(input.len());
    match random.below(6) {
        0 => input.truncate(at),
        1 => input.insert(at, random.byte()),
        2 if !input.is_empty() => drop(input.remove(at)),
        3 => {
            let end = at + random.below(input.len() - at);
            let part = input[at..end].to_vec();
            input.splice(at..at, part);
        }
        4 if !input.is_empty() => input[at] = TELLING[random.below(TELLING.len())],
        _ if !input.is_empty() => input[at] ^= 1 << random.below(8),
        _ => {}
    }
}

/// Makes fragments of what may be messages, in some order.
fn fragmented(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut fragments = Vec::new();
    for chunk in bytes.chunks(1 + random.below(60)) {
        let flags = [0x8000_u16, 0x0000, 0x4000, 0xc000][random.below(4)];
        fragments.extend_from_slice(&14_u32.to_le_bytes());
        fragments.extend_from_slice(&flags.to_le_bytes());
        fragments.extend_from_slice(&i64::try_from(random.below(3)).unwrap().to_le_bytes());
        let length = u32::try_from(6 + chunk.len()).unwrap();
        fragments.extend_from_slice(&length.to_le_bytes());
        fragments.extend_from_slice(&0x2000_u16.to_le_bytes());
        fragments.extend_from_slice(chunk);
    }
    fragments
}

/// Reads all messages in bytes that arrive in pieces, and each of them in every way.
fn assemble(random: &mut Random, bytes: &[u8]) -> Result<(), HazelcastError> {
    let (mut assembler, mut read_bytes) = (Assembler::default(), 0);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(1 + random.below(rest.len()));
        rest = later;
        assembler.unread().extend_from_slice(piece);
        while let Some(message) = assembler.next()? {
            read_bytes += message.len();
            assert!(message.len() <= MESSAGE_MAX && read_bytes <= bytes.len());
            read(&message);
        }
    }
    Ok(())
}

/// Reads a message as the reply to each request, whatever it is.
fn read(message: &Message) {
    let _ = message.correlation();
    let again = || message.clone();
    let _ = again().reply_to(AUTHENTICATION).and_then(|reply| Welcome::decode(&reply));
    let _ = (Welcome::decode(message), auth::new_ids::decode(again()));
    for kind in [map::GET, map::PUT_IF_ABSENT] {
        let _ =
            map::value(again(), kind).map(|value| value.map(|value| value::text(&value).is_some()));
    }
    for kind in [map::TRY_LOCK, map::IS_LOCKED, map::REPLACE_IF_SAME, cp::CLOSE_SESSION] {
        let _ = map::answer(again(), kind);
    }
    for kind in [map::UNLOCK, cp::HEARTBEAT, auth::PING] {
        let _ = map::done(again(), kind).map_err(|err| err.to_string());
    }
    let _ = (GroupId::decode(again()), SessionGrant::decode(again()), Ownership::decode(again()));
    let _ = (cp::fence(again()), cp::still_held(again()), cp::names(again()));
    let _ = (Keys::decode(again()), MapConfig::decode(again()));
    let _ = management::count_of_cp_members(again());
}

/// Runs one target on the inputs of a seed, until `more` says no. Returns how many there were.
fn run(target: &Target, seed: u64, mut more: impl FnMut(u32) -> bool) -> u32 {
    let mut random = Random(seed);
    let mut count = 0;
    while more(count) {
        let bytes = input(&mut random);
        (target.1)(&mut random, bytes);
        count += 1;
    }
    count
}

#[test]
fn no_bytes_of_a_member_make_this_client_panic() {
    for target in &TARGETS {
        assert_eq!(run(target, SEED, |count| count < FIXED), FIXED, "{}", target.0);
    }
}

/// Without this, the targets might see nothing but what is refused at once.
#[test]
fn the_inputs_reach_every_decoder() {
    let mut random = Random(SEED);
    let mut seen = [0; 10];
    for _ in 0..FIXED {
        let message = Message::new(input(&mut random));
        let again = || message.clone();
        for (at, read) in [
            Welcome::decode(&message).is_ok(),
            GroupId::decode(again()).is_ok(),
            Ownership::decode(again()).is_ok(),
            map::value(again(), map::GET).is_ok(),
            matches!(again().reply_to(map::UNLOCK), Err(HazelcastError::Server { .. })),
            Welcome::decode(&message).is_ok_and(|welcome| welcome.info.members.is_some()),
            Keys::decode(again()).is_ok_and(|keys| keys.next.is_some()),
            MapConfig::decode(again()).is_ok(),
            management::count_of_cp_members(again()).is_ok(),
            cp::names(again()).is_ok(),
        ]
        .into_iter()
        .enumerate()
        {
            seen[at] += u32::from(read);
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

/// Runs each target for the time that `GLOCK_FUZZ_SECONDS` gives, with a seed of its own.
#[test]
#[ignore = "long: run `cargo xtask fuzz hazelcast`"]
fn no_bytes_of_a_member_make_this_client_panic_for_long() {
    let seconds = std::env::var("GLOCK_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(30));
    let seed = std::env::var("GLOCK_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| getrandom::u64().unwrap());
    let log =
        |line: String| drop(std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()));
    std::thread::scope(|scope| {
        for target in &TARGETS {
            scope.spawn(move || {
                let until = Instant::now() + time;
                log(format!("{}: GLOCK_FUZZ_SEED={seed}\n", target.0));
                let count = run(target, seed, |count| count % 64 != 0 || Instant::now() < until);
                log(format!("{}: {count} inputs\n", target.0));
            });
        }
    });
}
