//! The language itself. What the store makes of a search is tested with a daemon.

use super::*;

struct Thing(&'static str, &'static str);

impl Searchable for Thing {
    fn field(&self, name: &str) -> Vec<String> {
        match name {
            "name" => vec![self.0.into()],
            "id" => vec![self.1.into()],
            "size" => vec![self.0.len().to_string()],
            _ => Vec::new(),
        }
    }
}

static FIELDS: &[Field] = &[
    own(&["name"]).free(),
    own(&["id"]),
    own(&["size"]).number(),
    own(&["none"]),
];

fn found(text: &str, case_sensitive: bool) -> Vec<&'static str> {
    let search = Search::parse(Some(text), case_sensitive, FIELDS).unwrap();
    let things = [
        Thing("db1", "1"),
        Thing("db2", "2"),
        Thing("my vm", "3"),
        Thing("web", "4"),
    ];
    let mut found: Vec<_> = things.into_iter().filter(|thing| search.finds(thing)).collect();
    search.arrange(&mut found, Thing::field);
    found.into_iter().map(|thing| thing.0).collect()
}

#[test]
fn things_are_found_as_the_language_says() {
    for (text, expected) in [
        ("", &["db1", "db2", "my vm", "web"][..]),
        ("name=db1", &["db1"]),
        ("NAME = DB1", &["db1"]),
        ("name=db*", &["db1", "db2"]),
        ("name=\"my vm\"", &["my vm"]),
        ("name=db1 or name=db2", &["db1", "db2"]),
        ("name=db* and id=2", &["db2"]),
        ("name=db* and name!=db1 OR id=4", &["db2", "web"]),
        ("(name=db1 or name=web) and id=4", &["web"]),
        ("((((name=db1))))", &["db1"]),
        ("eb", &["web"]),
        ("name=or or name=page", &[]),
        ("size > 3", &["my vm"]),
        ("size<=3 and id>=2 id<4", &["db2"]),
        ("size != 3", &["my vm"]),
        ("name > db1 and name < n", &["db2", "my vm"]),
        ("none=x", &[]),
        ("none!=x", &["db1", "db2", "my vm", "web"]),
        ("sortby name desc page 1", &["web", "my vm", "db2", "db1"]),
        ("id<4 sortby size DESC", &["my vm", "db2", "db1"]),
        ("sortby id asc", &["db1", "db2", "my vm", "web"]),
    ] {
        assert_eq!(found(text, false), expected, "{text}");
    }
    assert_eq!(found("name=DB1", true), Vec::<&str>::new());
}

#[test]
fn a_page_is_part_of_the_search() {
    let page = |text| Search::parse(Some(text), false, FIELDS).unwrap().page;
    assert_eq!(page("page 2"), Some(2));
    assert_eq!(page("name=a page 3"), Some(3));
    assert_eq!(page("page"), Some(1));
    assert_eq!(page("name=page"), None);
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let text = |text: &str| {
        Search::parse(Some(text), false, FIELDS)
            .unwrap_err()
            .detail()
            .to_owned()
    };
    assert!(text("status=up").contains("'status'"));
    assert!(text("size>big").contains("'big'"));
    assert!(text("sortby memory").contains("'memory'"));
    for bad in [
        "==",
        "name=",
        "name=\"x",
        "(name=a",
        "name=a)",
        "()",
        "name=a and",
        "name=a or page 2",
        "!",
        "page x",
        "name=a page 1 2",
        "page 99999999999999999999999",
        "name==a",
        "sortby",
        "size=*",
    ] {
        assert!(Search::parse(Some(bad), false, FIELDS).is_err(), "{bad}");
    }
}

#[test]
fn hostile_searches_are_bounded() {
    for bomb in [
        "a ".repeat(100_000),
        "a ".repeat(2000),
        "(".repeat(4000),
        "(a)".repeat(65),
    ] {
        assert!(Search::parse(Some(&bomb), false, FIELDS).is_err());
    }
    let stars = format!("name={}", "*a".repeat(1000));
    let search = Search::parse(Some(&stars), false, FIELDS).unwrap();
    assert!(!search.finds(&Thing("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "1")));
    for text in [
        "\u{0}",
        "\u{202e}",
        "name=\u{1f512}",
        "'; drop table vms; --",
        "name=%",
        "{query}",
    ] {
        drop(Search::parse(Some(text), false, FIELDS));
    }
}

#[test]
fn a_date_means_the_whole_day() {
    let day = 24 * 3600 * 1_000_000;
    let (from, to) = instant::read("2026-01-31").unwrap();
    assert_eq!(to - from, day);
    assert_eq!(instant::read("01/31/2026"), Some((from, to)));
    assert_eq!(instant::read("2026-01-31T00:00:00Z"), Some((from, from + 1_000_000)));
    assert_eq!(
        instant::read("2026-01-31 01:00:00"),
        Some((from + day / 24, from + day / 24 + 1_000_000))
    );
    for bad in [
        "",
        "yesterday",
        "2026-13-01",
        "9999999-01-01",
        "1",
        "-9999-01-01T00:00:00",
    ] {
        assert!(instant::read(bad).is_none_or(|(from, to)| from < to), "{bad}");
    }
}

#[test]
fn what_is_the_same_everywhere_is_settled_before_the_store_is_asked() {
    let house = House {
        instance: String::new(),
        data_center: (String::new(), "Default".into()),
        cluster: (String::new(), "Default".into()),
        host: (String::new(), "here".into()),
        network: (String::new(), String::new()),
        vnic_profile: (String::new(), String::new()),
        host_cpus: 1,
        host_memory_bytes: 1,
        qemu_version: String::new(),
        accelerator: String::new(),
    };
    let find = |text, fields| Search::parse(Some(text), false, fields).unwrap().filter(&house).find;
    assert_eq!(settled(&find("cluster=default and fqdn!=x", VMS)), Some(true));
    assert_eq!(settled(&find("cluster=other and name=x", VMS)), Some(false));
    assert_eq!(settled(&find("cluster=default and name=x", VMS)), None);
    assert_eq!(settled(&find("host=elsewhere", VMS)), Some(false));
    assert_eq!(
        settled(&find("name=Blank and datacenter=Default", TEMPLATES)),
        Some(true)
    );
    assert_eq!(settled(&find("", DISKS)), Some(true));
}
