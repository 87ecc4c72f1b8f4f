//! Whatever bytes come in, the answer is a value or a typed error, soon; and whatever comes out can be read again.

use proptest::prelude::*;
use std::time::{Duration, Instant};
use stillpoint_wire::{Encoding, Limits, WireError, WireErrorKind, model::*, read, read_list, write};

fn snapshot(body: &[u8], encoding: Encoding) -> Result<Snapshot, WireError> {
    read::<Snapshot>(body, encoding, &Limits::default()).map(|got| got.value)
}

#[track_caller]
fn refused(body: impl AsRef<[u8]>, encoding: Encoding, kind: WireErrorKind) -> WireError {
    let begin = Instant::now();
    let error = snapshot(body.as_ref(), encoding)
        .map(drop)
        .expect_err("must be refused");
    assert_eq!(error.kind, kind, "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5), "took {:?}", begin.elapsed());
    assert!(error.detail.len() < 1000 && error.path.len() < 1000);
    error
}

#[track_caller]
fn refused_xml(body: impl AsRef<[u8]>, kind: WireErrorKind) -> WireError {
    refused(body, Encoding::Xml, kind)
}

#[track_caller]
fn refused_json(body: impl AsRef<[u8]>, kind: WireErrorKind) -> WireError {
    refused(body, Encoding::Json, kind)
}

#[test]
fn a_document_type_is_refused_and_no_entity_is_expanded() {
    let laughs = "<!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;&b;'>]>\
                  <snapshot><description>&c;</description></snapshot>";
    refused_xml(laughs, WireErrorKind::Malformed);
    let external = "<!DOCTYPE s SYSTEM 'file:///etc/passwd'><snapshot/>";
    refused_xml(external, WireErrorKind::Malformed);
    refused_xml(
        "<snapshot><description>&xxe;</description></snapshot>",
        WireErrorKind::Malformed,
    );
    refused_xml("<snapshot id='&xxe;'/>", WireErrorKind::Malformed);
}

#[test]
fn broken_documents_are_malformed() {
    let huge_name = format!("<snapshot><{0}></y></snapshot>", "x".repeat(100_000));
    for text in [
        "",
        " ",
        "x",
        "<",
        "<snapshot",
        "<snapshot>",
        "<snapshot><description>",
        "<snapshot></vm>",
        "</snapshot>",
        "<snapshot/><snapshot/>",
        "<snapshot/>x",
        "x<snapshot/>",
        "<snapshot/>&lt;",
        "<snapshot id=1/>",
        "<snapshot id='<'/>",
        "<snapshot id='1' id='2'/>",
        "<snapshot>&</snapshot>",
        "<snapshot>&#0;</snapshot>",
        "<snapshot>&#xD800;</snapshot>",
        "<snapshot>&#x110000;</snapshot>",
        "<snapshot>&#99999999999999999999;</snapshot>",
        "<snapshot>\u{0}</snapshot>",
        "<snapshot>\u{1}</snapshot>",
        "<snapshot id='&#1;'/>",
        "<snapshot>\u{FFFF}</snapshot>",
        "<snapshot><![CDATA[</snapshot>",
        "<snapshot><?xml version='1.0'?></snapshot>",
        "<?xml version='1.0' encoding='utf-16'?><snapshot/>",
        "< snapshot/>",
        &huge_name,
    ] {
        refused_xml(text, WireErrorKind::Malformed);
    }
    for text in [
        "",
        "{",
        "{]",
        r#"{"description":"x"}{}"#,
        r#"{"description":"\ud800"}"#,
        r#"{"description":"\udc00\ud800"}"#,
        "{\"description\":\"\u{0}\"}",
        r#"{"a":1e999}"#,
        r#"{"a":NaN}"#,
        "{'a':1}",
        r#"{"a":01}"#,
    ] {
        refused_json(text, WireErrorKind::Malformed);
    }
    for body in [
        &b"<snapshot>\xFF</snapshot>"[..],
        b"\xFF\xFE<\0",
        b"<snapshot>\xED\xA0\x80</snapshot>",
        b"\xC0\x80",
    ] {
        refused_xml(body, WireErrorKind::Malformed);
        refused_json(body, WireErrorKind::Malformed);
    }
}

#[test]
fn another_root_is_told_from_a_broken_document() {
    for text in ["<vm/>", "<Snapshot/>", "<x:snapshot xmlns:x='urn:x'/>", "<snapshots/>"] {
        refused_xml(text, WireErrorKind::WrongRoot);
    }
    for text in ["[]", "null", "1", r#""x""#] {
        refused_json(text, WireErrorKind::WrongRoot);
    }
}

#[test]
fn deep_wide_and_long_documents_are_refused_by_their_limit() {
    let deep = format!("<snapshot>{}", "<a>".repeat(10_000));
    refused_xml(deep, WireErrorKind::TooDeep);
    refused_json(format!(r#"{{"a":{}"#, "[".repeat(10_000)), WireErrorKind::TooDeep);
    refused_json(r#"{"a":"#.repeat(10_000), WireErrorKind::TooDeep);
    let attributes: String = (0..200_000).map(|n| format!(" a{n}=''")).collect();
    refused_xml(format!("<snapshot{attributes}/>"), WireErrorKind::TooLarge);
    refused_xml(
        format!("<snapshot>{}</snapshot>", "<a/>".repeat(500_000)),
        WireErrorKind::TooLarge,
    );
    refused_json(
        format!(r#"{{"a":[{}0]}}"#, "0,".repeat(500_000)),
        WireErrorKind::TooLarge,
    );
    let long = "x".repeat(3 << 20);
    refused_xml(
        format!("<snapshot><description>{long}</description></snapshot>"),
        WireErrorKind::TooLarge,
    );
    refused_xml(format!("<snapshot id='{long}'/>"), WireErrorKind::TooLarge);
    refused_json(format!(r#"{{"description":"{long}"}}"#), WireErrorKind::TooLarge);
    // Many small pieces that become one text.
    let pieces = format!(
        "<snapshot><description>{}</description></snapshot>",
        "<![CDATA[x]]>".repeat(1001)
    );
    let limits = Limits {
        text_bytes: 1000,
        ..Limits::default()
    };
    let error = read::<Snapshot>(pieces.as_bytes(), Encoding::Xml, &limits).unwrap_err();
    assert_eq!(error.kind, WireErrorKind::TooLarge);
    refused_xml(vec![b' '; (4 << 20) + 1], WireErrorKind::TooLarge);
}

#[test]
fn the_deepest_allowed_nesting_is_read_on_a_small_stack() {
    let nested = |open: &str, close: &str, levels: usize| open.repeat(levels) + &close.repeat(levels);
    let xml = format!(
        "<snapshot>{}</snapshot>",
        nested("<vm><template>", "</template></vm>", 15)
    );
    let json = format!("{{{}}}", [r#""vm":{"template":{"#.repeat(15), "}}".repeat(15)].concat());
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(move || {
            let from_xml = snapshot(xml.as_bytes(), Encoding::Xml).unwrap();
            assert_eq!(from_xml, snapshot(json.as_bytes(), Encoding::Json).unwrap());
            assert_eq!(
                snapshot(write(&from_xml, Encoding::Xml).as_bytes(), Encoding::Xml).unwrap(),
                from_xml
            );
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn what_may_be_given_once_is_refused_twice() {
    let error = refused_xml(
        "<snapshot><persist_memorystate>true</persist_memorystate><persist_memorystate>false</persist_memorystate></snapshot>",
        WireErrorKind::Duplicate,
    );
    assert_eq!(error.path, "snapshot/persist_memorystate");
    refused_xml(
        "<snapshot><disk_attachments/><disk_attachments/></snapshot>",
        WireErrorKind::Duplicate,
    );
    refused_json(r#"{"description":"a","description":"b"}"#, WireErrorKind::Duplicate);
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_its_place() {
    let error = refused_xml(
        "<snapshot><persist_memorystate>maybe</persist_memorystate></snapshot>",
        WireErrorKind::InvalidValue,
    );
    assert_eq!(error.path, "snapshot/persist_memorystate");
    assert!(error.detail.contains("maybe"), "{error}");
    for text in [
        "<snapshot><persist_memorystate/></snapshot>",
        "<snapshot><memory>-1</memory></snapshot>",
        "<snapshot><memory>18446744073709551616</memory></snapshot>",
        "<snapshot><memory>1.5</memory></snapshot>",
        "<snapshot><cpu_shares>2147483648</cpu_shares></snapshot>",
        "<snapshot><date>yesterday</date></snapshot>",
        "<snapshot><date>2026-13-01T00:00:00Z</date></snapshot>",
        "<snapshot><date>2026-01-01T00:00:00Z[Europe/Rome]</date></snapshot>",
        "<snapshot><date>1767323045123</date></snapshot>",
        "<snapshot><description><b>x</b></description></snapshot>",
        "<snapshot>text</snapshot>",
        "<snapshot><cpu>x</cpu></snapshot>",
        "<snapshot><disk_attachments><disk/></disk_attachments></snapshot>",
    ] {
        refused_xml(text, WireErrorKind::InvalidValue);
    }
    for text in [
        r#"{"persist_memorystate":"maybe"}"#,
        r#"{"persist_memorystate":2}"#,
        r#"{"memory":true}"#,
        r#"{"memory":1e30}"#,
        r#"{"memory":-1}"#,
        r#"{"date":99999999999999999999}"#,
        r#"{"date":9223372036854775807}"#,
        r#"{"description":{}}"#,
        r#"{"description":[]}"#,
        r#"{"cpu":"x"}"#,
        r#"{"cpu":[]}"#,
        r#"{"disk_attachments":[]}"#,
    ] {
        refused_json(text, WireErrorKind::InvalidValue);
    }
    let text = "<snapshot><disk_attachments><disk_attachment/><disk_attachment><disk><provisioned_size>x</provisioned_size>\
                </disk></disk_attachment></disk_attachments></snapshot>";
    let error = refused_xml(text, WireErrorKind::InvalidValue);
    assert_eq!(
        error.path,
        "snapshot/disk_attachments/disk_attachment[1]/disk/provisioned_size"
    );
}

#[test]
fn booleans_numbers_and_dates_are_read_in_every_form_of_the_contract() {
    for (text, value) in [
        ("true", true),
        ("True", true),
        ("1", true),
        ("FALSE", false),
        ("0", false),
        (" false ", false),
    ] {
        let text = format!("<snapshot><persist_memorystate>{text}</persist_memorystate></snapshot>");
        assert_eq!(
            snapshot(text.as_bytes(), Encoding::Xml).unwrap().persist_memorystate,
            Some(value)
        );
    }
    for (text, value) in [
        ("false", false),
        (r#""False""#, false),
        ("0", false),
        (r#""1""#, true),
        ("true", true),
    ] {
        let text = format!(r#"{{"persist_memorystate":{text}}}"#);
        assert_eq!(
            snapshot(text.as_bytes(), Encoding::Json).unwrap().persist_memorystate,
            Some(value)
        );
    }
    for text in [
        "<snapshot><memory/></snapshot>",
        "<snapshot><memory></memory></snapshot>",
    ] {
        assert_eq!(snapshot(text.as_bytes(), Encoding::Xml).unwrap().base.memory, Some(0));
    }
    for text in [
        r#"{"memory":18446744073709551615}"#,
        r#"{"memory":"18446744073709551615"}"#,
    ] {
        assert_eq!(
            snapshot(text.as_bytes(), Encoding::Json).unwrap().base.memory,
            Some(u64::MAX)
        );
    }
    let micros = |text: &str, encoding| snapshot(text.as_bytes(), encoding).unwrap().date.unwrap().0;
    for text in [
        "2026-01-02T03:04:05.123Z",
        "2026-01-02T05:04:05.123+02:00",
        "2026-01-02T03:04:05.123",
    ] {
        assert_eq!(
            micros(&format!("<snapshot><date>{text}</date></snapshot>"), Encoding::Xml),
            1_767_323_045_123_000
        );
        assert_eq!(
            micros(&format!(r#"{{"date":"{text}"}}"#), Encoding::Json),
            1_767_323_045_123_000
        );
    }
    for text in ["1767323045123", r#""1767323045123""#] {
        assert_eq!(
            micros(&format!(r#"{{"date":{text}}}"#), Encoding::Json),
            1_767_323_045_123_000
        );
    }
}

const EXAMPLES: [&str; 6] = [
    include_str!("contract/snapshot.xml"),
    include_str!("contract/vm.xml"),
    include_str!("contract/action_failed.xml"),
    include_str!("contract/snapshot.json"),
    include_str!("contract/vms.json"),
    include_str!("contract/api.json"),
];

fn read_as_everything(body: &[u8]) {
    let limits = Limits::default();
    for encoding in [Encoding::Xml, Encoding::Json] {
        drop(read::<Snapshot>(body, encoding, &limits));
        drop(read::<Vm>(body, encoding, &limits));
        drop(read::<Action>(body, encoding, &limits));
        drop(read::<Api>(body, encoding, &limits));
        drop(read_list::<Vm>(body, encoding, &limits));
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_as_everything(&body);
    }

    #[test]
    fn damaged_examples_never_panic(
        example in proptest::sample::select(&EXAMPLES[..]),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..3), 1..8),
    ) {
        let mut body = example.as_bytes().to_vec();
        for (place, byte, how) in damage {
            let at = place.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => body.truncate(at.max(1)),
            }
        }
        read_as_everything(&body);
    }

    #[test]
    fn any_text_makes_a_document_that_can_be_read_again(text in any::<String>()) {
        let mut value = Snapshot::default();
        value.base.head.description = Some(text.clone());
        value.base.head.id = Some(text.clone());
        let json = snapshot(write(&value, Encoding::Json).as_bytes(), Encoding::Json).unwrap();
        prop_assert_eq!(&json, &value);
        let xml = snapshot(write(&value, Encoding::Xml).as_bytes(), Encoding::Xml).unwrap();
        let allowed = |c: char| c >= ' ' && !matches!(c, '\u{FFFE}' | '\u{FFFF}') || matches!(c, '\t' | '\n' | '\r');
        let expected: String = text.chars().map(|c| if allowed(c) { c } else { '\u{FFFD}' }).collect();
        prop_assert_eq!(xml.base.head.description, Some(expected.clone()));
        prop_assert_eq!(xml.base.head.id, Some(expected));
    }
}
