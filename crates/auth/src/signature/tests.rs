//! The worked examples of the contract with the clock held still, everything that may differ on the way, and hostile input.

use super::*;
use crate::{Bootstrap, Caller, tests::Room};
use proptest::prelude::*;
use stillpoint_types::Micros;

const ACCESS: &str = "STILLPOINTEXAMPLEAK1";
const SECRET: &str = "examplesecretkeyforthespec00000000000000";
const PROJECT: &str = "0123456789abcdef0123456789abcdef";
/// 2026-01-02T03:04:05Z.
const NOW: Micros = 1_767_323_045_000_000;
const MINUTE: Micros = 60_000_000;
const BODY: &[u8] = br#"{"snapshot":{"volume_id":"5aa119a8-d25b-45a7-8d1b-88e127885635","name":"snap-001"}}"#;
const FIRST: &str = "f8dc83de265ffa9f59ce7cfeffdf0c5495bac39e18c95f43da206336e0471df2";
const SECOND: &str = "a8980c0ce5eda083041621d2248def69776a4b2d90d924541a70727857825903";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A request that can be changed before it is judged.
#[derive(Clone)]
struct Request {
    method: &'static str,
    path: String,
    query: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    fn new(method: &'static str, tail: &str, query: &str, body: &[u8], signature: &str) -> Self {
        let signed = "content-type;host;x-project-id;x-sdk-date";
        let headers = [
            ("content-type", "application/json;charset=utf-8"),
            ("host", "evs.example.net:8776"),
            ("x-project-id", PROJECT),
            ("x-sdk-date", "20260102T030405Z"),
            (
                "authorization",
                &format!("SDK-HMAC-SHA256 Access={ACCESS}, SignedHeaders={signed}, Signature={signature}"),
            ),
        ];
        Self {
            method,
            path: format!("/v2/{PROJECT}/cloudsnapshots{tail}"),
            query: query.to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.into())).to_vec(),
            body: body.to_vec(),
        }
    }

    fn first() -> Self {
        Self::new("POST", "", "", BODY, FIRST)
    }

    fn second() -> Self {
        Self::new(
            "GET",
            "/detail",
            "limit=10&name=a%20b~%2A&status=available",
            b"",
            SECOND,
        )
    }

    fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref().to_vec();
        match self.headers.iter_mut().find(|(of, _)| of == name) {
            Some(header) => header.1 = value,
            None => self.headers.push((name.to_owned(), value)),
        }
        self
    }

    fn authorization(&self) -> String {
        let header = self.headers.iter().find(|(name, _)| name == "authorization").unwrap();
        String::from_utf8(header.1.clone()).unwrap()
    }

    fn claim(&self, now: Micros) -> Result<Claim, SignatureError> {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        let head = Head {
            method: self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
        };
        Claim::of(&head, now)
    }

    /// Judges without a catalogue, with the example's secret.
    fn judge(&self) -> Result<(), SignatureError> {
        let claim = self.claim(NOW)?;
        let hash = claim.hash_of(&self.body)?;
        if claim.is_signed_by(SECRET.as_bytes(), &hash) {
            Ok(())
        } else {
            Err(SignatureError::Wrong)
        }
    }

    /// Signs it as the client does, over the headers that the test chose.
    fn sign(&mut self, signed: &str, payload: &str) -> &mut Self {
        let lines: String = signed
            .split(';')
            .map(|name| {
                let value = &self.headers.iter().find(|(of, _)| of == name).unwrap().1;
                format!("{name}:{}\n", String::from_utf8_lossy(value).trim())
            })
            .collect();
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{signed}\n{payload}",
            self.method,
            canonical::path(&self.path).unwrap(),
            canonical::query(&self.query).unwrap(),
        );
        let date = &self.headers.iter().find(|(name, _)| name == "x-sdk-date").unwrap().1;
        let date = String::from_utf8_lossy(date);
        let text = format!("{ALGORITHM}\n{date}\n{}", hex(&Sha256::digest(canonical)));
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        let signature = hex(&mac.finalize().into_bytes());
        self.set(
            "authorization",
            format!("{ALGORITHM} Access={ACCESS}, SignedHeaders={signed}, Signature={signature}"),
        )
    }
}

/// What a client is told.
fn said(request: &Request) -> String {
    request
        .judge()
        .map_or_else(|error| error.to_string(), |()| "accepted".to_owned())
}

async fn asked(auth: &Auth, request: &Request) -> Result<Caller, SignatureError> {
    auth.caller_of_claim(&request.claim(NOW)?, &request.body).await
}

#[tokio::test]
async fn the_worked_examples_are_accepted_for_the_owner_of_the_key_and_an_unknown_key_looks_like_a_wrong_signature() {
    let room = Room::new().await;
    let file = format!(
        "[[project]]\nname = \"demo\"\nid = \"{PROJECT}\"\n[[user]]\nname = \"alice\"\npassword = \"p\"\n\
         [[user.role]]\nproject = \"demo\"\nrole = \"member\"\n[[user.access_key]]\naccess = \"{ACCESS}\"\nsecret = \"{SECRET}\"\n"
    );
    let bootstrap = Bootstrap::parse(&file, std::path::Path::new("bootstrap.toml")).unwrap();
    room.auth.apply_bootstrap(&bootstrap).await.unwrap();
    let alice = room.auth.login("alice@internal", "p").await.unwrap();
    for (item, request) in [("E32", Request::first()), ("C33", Request::second())] {
        assert_eq!(asked(&room.auth, &request).await.unwrap(), alice, "{item}");
    }
    let mut wrong = Request::first();
    wrong.body[3] ^= 1;
    let mut unknown = Request::first();
    let header = unknown.authorization().replace(ACCESS, "STILLPOINTEXAMPLEAK2");
    unknown.set("authorization", header);
    let answers = [
        asked(&room.auth, &wrong).await.unwrap_err().to_string(),
        asked(&room.auth, &unknown).await.unwrap_err().to_string(),
    ];
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn the_canonical_requests_of_the_examples_have_the_published_hashes() {
    let hash = |request: Request| {
        let claim = request.claim(NOW).unwrap();
        let body = claim.hash_of(&request.body).unwrap();
        hex(&Sha256::digest(claim.canonical_request(&body)))
    };
    let first = "db8f8703e6abc59830718c47a672e9e854b9657466844d303dab3983e3d8d881";
    let second = "527686190ee5d3acf1801b5d52c23c1e4fdcd693a0e3da857c527c8a08a5cbab";
    assert_eq!([hash(Request::first()), hash(Request::second())], [first, second]);
}

#[test]
fn the_date_may_be_fifteen_minutes_off_to_either_side_and_is_of_one_form() {
    let request = Request::first();
    for (off, is_near) in [
        (-15 * MINUTE, true),
        (15 * MINUTE, true),
        (-15 * MINUTE - 1, false),
        (16 * MINUTE, false),
    ] {
        let claim = request.claim(NOW + off);
        assert_eq!(claim.is_ok(), is_near, "{off}");
        assert!(is_near || matches!(claim, Err(SignatureError::Date)));
    }
    for date in [
        "",
        "2026-01-02T03:04:05Z",
        "20260102T030405",
        "20261302T030405Z",
        "20260230T030405Z",
        "20260102T030405z",
        "+0260102T030405Z",
        "20260102T0304\u{e9}Z",
    ] {
        let refused = said(Request::first().set("x-sdk-date", date));
        assert!(refused.starts_with("the header x-sdk-date is not"), "{date}: {refused}");
    }
}

#[test]
fn whatever_differs_on_the_way_makes_the_signature_wrong() {
    let wrong = SignatureError::Wrong.to_string();
    let changes: [fn(&mut Request); 7] = [
        |request| request.method = "PUT",
        |request| request.path.push_str("/x"),
        |request| request.query = "limit=11&name=a%20b~%2A&status=available".to_owned(),
        |request| request.query.push_str("&all_tenants=1"),
        |request| {
            request.set("host", "evs.example.net");
        },
        |request| {
            request.set("content-type", "text/plain");
        },
        |request| {
            request.set("x-project-id", "1123456789abcdef0123456789abcdef");
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut request = Request::second();
        change(&mut request);
        assert_eq!(said(&request), wrong, "change {number}");
    }
    let mut agent = Request::first();
    agent
        .set("user-agent", "sdk/3.0; cfg")
        .sign("host;user-agent;x-project-id;x-sdk-date", &hex(&Sha256::digest(BODY)));
    assert_eq!(said(&agent), "accepted");
    assert_eq!(said(agent.set("user-agent", "proxy")), wrong, "E36");
}

#[test]
fn other_spellings_of_the_same_request_have_the_same_signature() {
    let mut request = Request::second();
    request.query = "status=available&name=a+b%7E*&limit=%31%30".to_owned();
    request.path = request.path.replace("detail", "%64etail/");
    request.set("host", "  evs.example.net:8776 ");
    assert_eq!(said(&request), "accepted");
    let mut flag = Request::second();
    flag.query = "b&a=2&a=10".to_owned();
    assert!(said(&flag).contains("sorted"));
    flag.query = "b&a=10&a=2".to_owned();
    flag.sign("host;x-project-id;x-sdk-date", EMPTY);
    assert_eq!(said(&flag), "accepted");
    flag.query = "a=10&b=&a=2".to_owned();
    assert_eq!(said(&flag), "accepted");
}

#[test]
fn what_the_server_acts_on_has_to_be_signed_and_clear() {
    for (signed, name) in [
        ("x-project-id;x-sdk-date", "host"),
        ("host;x-project-id", "x-sdk-date"),
        ("host;x-sdk-date", "x-project-id"),
    ] {
        let refused = said(Request::first().sign(signed, &hex(&Sha256::digest(BODY))));
        assert_eq!(refused, format!("the header {name} has to be signed"));
    }
    for name in ["host", "x-sdk-date", "x-project-id", "content-type", "authorization"] {
        let mut request = Request::first();
        let copy = request.headers.iter().find(|(of, _)| of == name).unwrap().clone();
        request.headers.push(copy);
        assert_eq!(said(&request), format!("the header {name} was sent twice"));
    }
    let mut absent = Request::first();
    absent.headers.retain(|(name, _)| name != "content-type");
    assert_eq!(said(&absent), "the header content-type is signed, but was not sent");
    let mut slash = Request::first();
    slash.path = slash.path.replace("/cloud", "%2fcloud");
    assert!(said(&slash).contains("encoded slash"));
}

#[test]
fn a_body_is_vouched_for_or_refused() {
    let names = "host;x-project-id;x-sdk-date";
    let mut stated = Request::first();
    assert_eq!(
        said(stated.set("x-sdk-content-sha256", hex(&Sha256::digest(BODY)))),
        "accepted"
    );
    assert_eq!(
        said(stated.set("x-sdk-content-sha256", EMPTY)),
        SignatureError::Body.to_string()
    );
    let mut unsigned = Request::first();
    unsigned
        .set("x-sdk-content-sha256", "UNSIGNED-PAYLOAD")
        .sign(names, "UNSIGNED-PAYLOAD");
    assert_eq!(said(&unsigned), SignatureError::Body.to_string());
    unsigned.body.clear();
    assert_eq!(
        said(&unsigned),
        SignatureError::Wrong.to_string(),
        "the body was cut off on the way"
    );
    // The signer hashes an empty body, whatever it says.
    assert_eq!(said(unsigned.sign(names, EMPTY)), "accepted");
}

#[test]
fn other_algorithms_and_forms_are_refused() {
    let good = Request::first().authorization();
    for other in [
        good.replace("SDK-HMAC-SHA256", "SDK-HMAC-SM3"),
        good.replace("SDK-HMAC-SHA256 Access", "V11-HMAC-SHA256 Credential"),
        good.replace("SDK-HMAC-SHA256", "SDK-ECDSA-P256-SHA256"),
        good.replace("SDK-HMAC-SHA256", "SDK-SM2-SM3"),
    ] {
        assert!(Claim::is_meant(other.as_bytes()));
        assert_eq!(
            said(Request::first().set("authorization", other)),
            SignatureError::Algorithm.to_string()
        );
    }
    for scheme in ["Basic YTpi", "Bearer x", "SDK", ""] {
        assert!(!Claim::is_meant(scheme.as_bytes()), "{scheme}");
    }
    for bad in [
        "SDK-HMAC-SHA256".to_owned(),
        "SDK-HMAC-SHA256 ".to_owned(),
        good.replace(FIRST, &FIRST[1..]),
        good.replace(FIRST, &FIRST.replace('f', "g")),
        good.replace(ACCESS, ""),
        good.replace(ACCESS, &"A".repeat(256)),
        format!("{good}, Access=x"),
        format!("{good}, Other=x"),
        good.replace("host", "Host"),
        good.replace("host", "host;host"),
        good.replace("host", ""),
        good.replace("host", &vec!["h"; 65].join(";")),
    ] {
        let refused = said(Request::first().set("authorization", &bad));
        assert!(
            refused.starts_with("the Authorization header cannot be read"),
            "{bad}: {refused}"
        );
    }
}

proptest! {
    #[test]
    fn any_changed_byte_of_the_body_is_noticed(at in 0..BODY.len(), by in 1..=255_u8) {
        let mut request = Request::first();
        request.body[at] ^= by;
        prop_assert!(request.judge().is_err(), "E34");
    }

    #[test]
    fn any_changed_digit_of_the_signature_is_noticed(at in 0..64_usize, digit in "[0-9a-f]") {
        let mut other = FIRST.to_owned();
        other.replace_range(at..=at, &digit);
        let header = Request::first().authorization().replace(FIRST, &other);
        prop_assert_eq!(Request::first().set("authorization", header).judge().is_ok(), other == FIRST);
    }

    #[test]
    fn what_is_signed_is_what_a_reader_of_the_query_reads(pairs in prop::collection::vec(("[a-c +%&=~*é]{0,4}", "[ -~é]{0,6}"), 0..5)) {
        let mut pairs = pairs;
        pairs.sort();
        let raw = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        let canonical = canonical::query(&raw).unwrap();
        let read: Vec<(String, String)> = form_urlencoded::parse(canonical.as_bytes()).into_owned().collect();
        prop_assert_eq!(&read, &pairs);
        prop_assert_eq!(canonical::query(&canonical).unwrap(), canonical);
    }

    #[test]
    fn no_input_makes_it_panic(
        header in prop::collection::vec(any::<u8>(), 0..200),
        path in "\\PC{0,40}",
        query in "\\PC{0,40}",
        date in "[0-9TZ]{0,18}",
    ) {
        let mut request = Request::first();
        request.path = path;
        request.query = query;
        prop_assert!(request.judge().is_err());
        let _unread = request.set("x-sdk-date", date).judge();
        let _unread = request.set("authorization", [b"SDK-HMAC-SHA256 ".as_slice(), &header].concat()).judge();
    }
}
