//! A URL of each scheme makes a lock of its store, without I/O; one that cannot work says why.
#![allow(clippy::unwrap_used, reason = "a test that fails is a failed test")]

use glock_url::{LockUrl, Scheme, UrlError, open};

/// For each scheme a URL, the store's name, and a parameter that only a typo can be.
const URLS: [(&str, &str); 14] = [
    ("redis://user:CANARY@host:1/2", "redis"),
    ("rediss://:CANARY@host", "redis"),
    ("redis+cluster://:CANARY@h1,h2:7", "redis"),
    ("rediss+cluster://h1,h2", "redis"),
    ("postgres://user:CANARY@host/db?sslmode=disable&table=app.locks", "postgres"),
    ("mongodb://user:CANARY@h1,h2:7/db?replicaSet=rs0", "mongodb"),
    ("dynamodb://key:CANARY@eu-west-1/locks?endpoint=http://127.0.0.1:1", "dynamodb"),
    ("etcd://user:CANARY@h1,h2:7", "etcd"),
    ("hazelcast://user:CANARY@h1,h2:7/prod?lock=map&map=locks", "hazelcast"),
    ("hazelcast://h?lock=fenced&group=g&session_ttl=30s&unsafe_mode=true", "hazelcast"),
    ("hazelcast://h?lock=fenced&tls=true&ca=tests/authority.pem", "hazelcast"),
    ("consul://:CANARY@host?session_ttl_min=1s&datacenter=dc1", "consul"),
    ("sqlite:/nowhere/locks.db", "sqlite"),
    ("zk://user:CANARY@h1,h2:7/app?session_timeout=4s", "zookeeper"),
];

#[tokio::test]
async fn every_scheme_makes_a_lock_or_names_its_feature() {
    for (url, store) in URLS {
        let scheme = LockUrl::parse(url).unwrap().scheme();
        let needs_tls = url.starts_with("rediss") || url.contains("tls=true");
        match open(url).await {
            Ok(lock) => {
                assert_eq!(lock.backend(), store, "{url}");
                let shown = format!("{lock:?}");
                assert!(!shown.contains("CANARY"), "{shown}");
            }
            Err(UrlError::FeatureMissing { feature, .. }) => {
                let is_there =
                    scheme.is_compiled_in() && !(needs_tls && cfg!(not(feature = "tls")));
                assert!(!is_there, "{url}");
                let expected = if scheme.is_compiled_in() { "tls" } else { scheme.feature() };
                assert_eq!(feature, expected, "{url}");
            }
            Err(err) => panic!("{url}: {err}"),
        }
    }
}

#[tokio::test]
async fn a_parameter_that_no_store_has_is_refused() {
    for (url, _) in URLS {
        let sign = if url.contains('?') { '&' } else { '?' };
        match open(&format!("{url}{sign}colour=CANARY")).await {
            Err(UrlError::UnknownParameter { name, known, .. }) => {
                assert_eq!(name, "colour");
                assert!(known.contains("namespace"), "{known}");
            }
            Err(UrlError::FeatureMissing { .. }) => {}
            other => panic!("{url}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    for (url, _) in URLS {
        for bad in
            ["namespace=a/b", "call_timeout=0s", "call_timeout=5", "password_file=/nowhere/at/all"]
        {
            let sign = if url.contains('?') { '&' } else { '?' };
            let url = format!("{url}{sign}{bad}");
            let err = open(&url).await.err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(!format!("{err} {err:?}").contains("CANARY"), "{err}");
        }
    }
}

/// Hazelcast has two locks, of which neither is meant unless a URL says so.
#[cfg(feature = "hazelcast")]
#[tokio::test]
async fn a_url_of_hazelcast_says_which_lock_is_meant() {
    for (parameters, words) in [
        ("", "lock=fenced"),
        ("?lock=redis", "lock=map"),
        ("?lock=map&group=g", "`group`"),
        ("?lock=map&unsafe_mode=true", "`unsafe_mode`"),
        ("?lock=fenced&map=m", "`map`"),
        ("?lock=fenced&session_ttl=1ms", "session_ttl"),
        ("?lock=fenced&group=a/b", "group"),
        ("?lock=map&map=a/b", "map"),
    ] {
        let err = open(&format!("hazelcast://h{parameters}")).await.unwrap_err().to_string();
        assert!(err.contains(words), "{parameters}: {err}");
    }
    let err = open("hazelcast://user@h?lock=map").await.unwrap_err().to_string();
    assert!(err.contains("password"), "{err}");
}

#[cfg(all(feature = "hazelcast", feature = "tls"))]
#[tokio::test]
async fn tls_to_hazelcast_needs_the_certificate_of_an_authority() {
    for (parameters, words) in [
        ("tls=true", "name the file"),
        ("ca=tests/authority.pem", "no effect"),
        ("tls=true&ca=/nowhere/at/all", "cannot read"),
        ("tls=true&ca=Cargo.toml", "no certificate"),
    ] {
        let url = format!("hazelcast://h?lock=map&{parameters}");
        let err = open(&url).await.unwrap_err().to_string();
        assert!(err.contains(words), "{parameters}: {err}");
    }
}

#[tokio::test]
async fn a_profile_of_aws_is_looked_up_and_stands_beside_no_other_login() {
    if !Scheme::DynamoDb.is_compiled_in() {
        return;
    }
    for (url, words) in [
        ("dynamodb://eu-west-1/locks?profile=no-such-profile-anywhere", "no such profile"),
        ("dynamodb://key:CANARY@eu-west-1/locks?profile=p", "keep one"),
    ] {
        let err = open(url).await.err().unwrap_or_else(|| panic!("{url} is taken"));
        assert!(err.to_string().contains(words), "{url}: {err}");
        assert!(!format!("{err} {err:?}").contains("CANARY"), "{err}");
    }
}

#[test]
fn every_scheme_is_tried_here_and_documented() {
    let readme = include_str!("../README.md");
    for scheme in Scheme::ALL {
        let start = scheme.beginning();
        assert!(URLS.iter().any(|(url, _)| url.starts_with(&start)), "{scheme}");
        assert!(readme.contains(&format!("`{start}")), "{scheme} is not in the README");
        assert!(readme.contains(&format!("`{}`", scheme.feature())), "{scheme}");
    }
}
