//! Golden messages: requests as three other clients write them, and replies as members sent them.

use std::time::Duration;

use crate::wire::{
    auth::{Login, Welcome, ping},
    cp::{self, Endpoint, GroupId, Ownership, SessionGrant, create_group},
    error::HazelcastError,
    map::{self, Key},
    message::Message,
    request::Request,
    uuid::Uuid,
    value::{long, string},
};

const CLIENT: Uuid = Uuid::new(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
const OWNER: Endpoint = Endpoint { session: 5, thread: 7 };

/// Replies as members sent them, for the fuzzer to change.
pub(crate) const SAMPLES: [&str; 15] = [
    "3c00000000c001010000010000000000000000000055461397b4e4c6be492cacf6a954889b010f010000\
     00af439bd3cbcdc4ad35b91387e6b9789d000600000000100a0000000000553d00000f00000000003132\
     372e302e302e31060000000008090000000020342e32",
    "4400000000c001010000010000000000000000010100000000000000000000000000000000ffffffffff\
     010000000000000000000000000000000000ffffffffffffffff06000000000406000000000006000000\
     0004060000000004060000000010060000000008060000000010060000000008060000000020",
    "1300000000e0010b0000020000000000000000",
    "1300000000c001011e000300000000000000000600000000101600000000000000000000000000590f00\
     00000000000d000000000064656661756c74060000000028",
    "2b00000000e001011f0004000000000000000080000000000000001027000000000000d0070000000000\
     00",
    "1300000000e001031f00050000000000000000",
    "1b00000000e001020700060000000000000000e501000000000000",
    "2f00000000e001040700070000000000000000e501000000000000010000008000000000000000010000\
     0000000000",
    "1400000000e00103070008000000000000000000",
    "1400000000e001021f0009000000000000000001",
    "1400000000e0011101000a000000000000000001",
    "1300000000e0011301000b0000000000000000",
    "1300000000c0010e01000c0000000000000000060000000024",
    "1300000000c0010201000e000000000000000016000000002000000000fffffff80000000000000001",
    "1300000000c0000000001000000000000000000600000000100600000000100a00000000001a0000002c\
     00000000006a6176612e6c616e672e496c6c6567616c4d6f6e69746f725374617465457863657074696f\
     6e080000000000686f060000000010060000000008060000000008060000000028",
];

pub(crate) fn login() -> Login {
    let (cluster, name) = ("dev".into(), "glock".into());
    Login { cluster, credentials: None, client: CLIENT, name }
}

fn group() -> GroupId {
    GroupId { name: "default".into(), seed: 0, id: 4630 }
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

pub(crate) fn reply(hex: &str) -> Message {
    Message::new(bytes(hex))
}

/// Asserts that each request is written as its golden one.
fn assert_golden(requests: Vec<(Request, &str)>) {
    for (at, (request, golden)) in requests.into_iter().enumerate() {
        assert_eq!(request.finish(1), bytes(golden), "request {at}");
    }
}

#[test]
fn requests_for_cp_are_written_as_other_clients_write_them() {
    assert_golden(vec![
        (
            login().request(),
            "2800000000c0000100000100000000000000ffffffff007766554433221100ffeeddccbbaa998801\
             0900000000006465760600000000040600000000040900000000005253540b0000000000352e342e\
             300b0000000000676c6f636b060000000010060000000028",
        ),
        (ping(), "1600000000e0000b00000100000000000000ffffffff"),
        (
            create_group("lock-1"),
            "1600000000c000011e000100000000000000ffffffff0c00000000206c6f636b2d31",
        ),
        (
            group().create_session("glock"),
            "1600000000c000011f000100000000000000ffffffff060000000010160000000000000000000000\
             000016120000000000000d000000000064656661756c740600000000080b0000000020676c6f636b",
        ),
        (
            group().close_session(5),
            "1e00000000c000021f000100000000000000ffffffff050000000000000006000000001016000000\
             0000000000000000000016120000000000000d000000000064656661756c74060000000028",
        ),
        (
            group().heartbeat(5),
            "1e00000000c000031f000100000000000000ffffffff050000000000000006000000001016000000\
             0000000000000000000016120000000000000d000000000064656661756c74060000000028",
        ),
        (
            group().try_lock("lock-1", OWNER, CLIENT, 1_500),
            "3f00000000c0000207000100000000000000ffffffff050000000000000007000000000000000077\
             66554433221100ffeeddccbbaa9988dc050000000000000600000000101600000000000000000000\
             00000016120000000000000d000000000064656661756c740600000000080c00000000206c6f636b\
             2d31",
        ),
        (
            group().unlock("lock-1", OWNER, CLIENT),
            "3700000000c0000307000100000000000000ffffffff050000000000000007000000000000000077\
             66554433221100ffeeddccbbaa998806000000001016000000000000000000000000001612000000\
             0000000d000000000064656661756c740600000000080c00000000206c6f636b2d31",
        ),
        (
            group().get_ownership("lock-1"),
            "1600000000c0000407000100000000000000ffffffff060000000010160000000000000000000000\
             000016120000000000000d000000000064656661756c740600000000080c00000000206c6f636b2d\
             31",
        ),
    ]);
}

#[test]
fn requests_for_maps_are_written_as_other_clients_write_them() {
    let name = string("res-1");
    let key = Key::new("m", &name, 271);
    assert_golden(vec![
        (
            key.try_lock(3, 42, (30_000, 5_000)),
            "3600000000c0001101000100000000000000e1000000030000000000000030750000000000008813\
             0000000000002a000000000000000700000000006d17000000002000000000fffffff50000000572\
             65732d31",
        ),
        (
            key.unlock(3, 43),
            "2600000000c0001301000100000000000000e100000003000000000000002b000000000000000700\
             000000006d17000000002000000000fffffff5000000057265732d31",
        ),
        (
            key.is_locked(),
            "1600000000c0001201000100000000000000e10000000700000000006d17000000002000000000ff\
             fffff5000000057265732d31",
        ),
        (
            key.get(3),
            "1e00000000c0000201000100000000000000e100000003000000000000000700000000006d170000\
             00002000000000fffffff5000000057265732d31",
        ),
        (
            key.replace_if_same(3, &string("A"), &string("B")),
            "1e00000000c0000501000100000000000000e100000003000000000000000700000000006d170000\
             00000000000000fffffff5000000057265732d3113000000000000000000fffffff5000000014113\
             000000002000000000fffffff50000000142",
        ),
        // There with the value "A".
        (
            key.await_unlocked(3),
            "1e00000000c0000801000100000000000000e100000003000000000000000700000000006d170000\
             00000000000000fffffff5000000057265732d3116000000002000000000fffffff8800000000000\
             0000",
        ),
        // There with a TTL of 30 s.
        (
            key.put_if_absent(3, &string("A")),
            "2600000000c0000e01000100000000000000e1000000030000000000000000000000000000000700\
             000000006d17000000000000000000fffffff5000000057265732d3113000000002000000000ffff\
             fff50000000141",
        ),
    ]);
}

#[test]
fn a_login_is_granted_or_refused() {
    let granted = reply(
        "3c00000000c001010000010000000000000000000055461397b4e4c6be492cacf6a954889b010f01\
         000000af439bd3cbcdc4ad35b91387e6b9789d000600000000100a0000000000553d00000f000000\
         00003132372e302e302e31060000000008090000000020342e32",
    );
    assert_eq!(granted.correlation(), Some(1));
    let welcome = Welcome::decode(&granted).unwrap();
    assert_eq!(welcome.partitions, 271);
    assert_eq!(welcome.cluster, Uuid::new(0xadc4_cdcb_d39b_43af_9d78_b9e6_8713_b935));
    let refused = reply(
        "4400000000c001010000010000000000000000010100000000000000000000000000000000ffffff\
         ffff010000000000000000000000000000000000ffffffffffffffff060000000004060000000000\
         06000000000406000000000406000000001006000000000806000000001006000000000806000000\
         0020",
    );
    let err = Welcome::decode(&refused).unwrap_err();
    assert!(matches!(err, HazelcastError::Refused(_)), "{err:?}");
}

#[test]
fn replies_of_the_cp_subsystem_are_read() {
    let group = GroupId::decode(reply(
        "1300000000c001011e00030000000000000000060000000010160000000000000000000000000059\
         0f0000000000000d000000000064656661756c74060000000028",
    ));
    assert_eq!(group.unwrap(), GroupId { name: "default".into(), seed: 0, id: 3929 });
    let session = SessionGrant::decode(reply(
        "2b00000000e001011f0004000000000000000080000000000000001027000000000000d007000000\
         000000",
    ));
    let (ttl, heartbeat) = (Duration::from_secs(10), Duration::from_secs(2));
    assert_eq!(session.unwrap(), SessionGrant { id: 128, ttl, heartbeat });
    map::done(reply("1300000000e001031f00050000000000000000"), cp::HEARTBEAT).unwrap();
    let granted = reply("1b00000000e001020700060000000000000000e501000000000000");
    assert_eq!(cp::fence(granted).unwrap(), Some(485));
    let refused = reply("1b00000000e001020700060000000000000000000000000000000000");
    assert_eq!(cp::fence(refused).unwrap(), None);
    let owner = Ownership::decode(reply(
        "2f00000000e001040700070000000000000000e50100000000000001000000800000000000000001\
         00000000000000",
    ));
    assert!(owner.unwrap() == Ownership { fence: 485, session: 128, thread: 1 });
    assert!(!cp::still_held(reply("1400000000e00103070008000000000000000000")).unwrap());
    assert!(
        map::answer(reply("1400000000e001021f0009000000000000000001"), cp::CLOSE_SESSION).unwrap()
    );
}

#[test]
fn replies_of_maps_are_read() {
    assert!(map::answer(reply("1400000000e0011101000a000000000000000001"), map::TRY_LOCK).unwrap());
    map::done(reply("1300000000e0011301000b0000000000000000"), map::UNLOCK).unwrap();
    let stored = reply("1300000000c0010e01000c0000000000000000060000000024");
    assert_eq!(map::value(stored, map::PUT_IF_ABSENT).unwrap(), None);
    let found =
        reply("1300000000c0010201000e000000000000000016000000002000000000fffffff80000000000000001");
    assert_eq!(map::value(found, map::GET).unwrap(), Some(long(1)));
}

/// Cut off after the class; a member sends its message and its stack as well.
#[test]
fn an_error_is_told_by_its_number() {
    let class = "6a6176612e6c616e672e496c6c6567616c4d6f6e69746f725374617465457863657074696f6e";
    let begin = "1300000000c00000000010000000000000000006000000001006000000001\
                 00a00000000001a0000002c0000000000";
    for message in ["060000000004", "080000000000686f"] {
        let end = "060000000010060000000008060000000008060000000028";
        let err = reply(&format!("{begin}{class}{message}{end}")).reply_to(map::UNLOCK);
        match err.unwrap_err() {
            HazelcastError::Server { code: 26, class, .. } => {
                assert_eq!(class, "java.lang.IllegalMonitorStateException");
            }
            err => panic!("{err:?}"),
        }
    }
}

#[test]
fn a_reply_to_another_request_is_unexpected() {
    let pong = || reply("1300000000e0010b0000020000000000000000");
    assert!(pong().reply_to(map::UNLOCK).is_err());
    let err = map::answer(pong(), crate::wire::auth::PING).unwrap_err();
    assert!(matches!(err, HazelcastError::UnexpectedReply(_)), "{err:?}");
}
