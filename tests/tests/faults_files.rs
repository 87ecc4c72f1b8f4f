//! Image files that were changed behind our back, and files that somebody brought: none is used that is not what is
//! recorded, none is adopted that could read or hide something, and nobody's file is ever removed or taken over.

mod host;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use host::{FAILED, LONG, MIB, active_file, gone, refused, shows, text, told, tool, vm, write};
use stillpoint_testkit::{Api, Daemon, eventually};

fn name_of(file: &Path) -> Result<String> {
    let name = file.file_name().and_then(|name| name.to_str());
    Ok(name.context("a file without name")?.to_owned())
}

#[test]
fn a_file_that_belongs_to_no_disk_is_never_taken_over_or_removed_by_a_chosen_id() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, disks) = vm(&admin, "db1", 2)?;
    let ids = [
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
        "33333333-3333-4333-8333-333333333333",
    ];
    let path = |id: &str| daemon.images_dir().join(format!("{id}.qcow2"));
    tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", text(&path(ids[0]))?, "64M"],
    )?;
    write(&path(ids[0]), 0x55, 0, 1)?;
    fs::create_dir(path(ids[1]))?;
    std::os::unix::fs::symlink("/etc/hostname", path(ids[2]))?;
    let content = fs::read(path(ids[0]))?;
    let before = daemon.estate(&admin)?;
    for id in ids {
        for sparse in ["true", "false"] {
            let disk = format!(
                "<disk><image_id>{id}</image_id><provisioned_size>{}</provisioned_size><format>cow</format><sparse>{sparse}</sparse></disk>",
                64 * MIB
            );
            refused(admin.post("disks", &disk))?.expect(409, FAILED, &[id, "belongs to no disk", "adopt it"])?;
        }
        let snapshot = format!(
            "<snapshot><description>s</description><disk_attachments><disk_attachment><disk id=\"{}\"/></disk_attachment>\
             <disk_attachment><disk id=\"{}\"><image_id>{id}</image_id></disk></disk_attachment></disk_attachments></snapshot>",
            disks[0], disks[1]
        );
        let refused = refused(admin.post(&format!("vms/{vm}/snapshots"), &snapshot))?;
        refused.expect(409, FAILED, &[id, "belongs to no disk"])?;
    }
    ensure!(daemon.estate(&admin)? == before, "something was changed");
    ensure!(fs::read(path(ids[0]))? == content, "somebody's image was changed");
    ensure!(
        fs::read_link(path(ids[2]))? == Path::new("/etc/hostname"),
        "the link was changed"
    );
    daemon.scan_log(&[])
}

/// Puts something else in an image's place: qcow2 of a size (`qemu-img` wants it behind the name), or what `what` says.
fn replace(file: &Path, what: &str, base: Option<&str>, aside: &Path) -> Result<()> {
    let qcow2 = |base: Option<&str>, size: &str| {
        let backing = base.map_or_else(Vec::new, |base| vec!["-b", base, "-F", "qcow2"]);
        let arguments = [
            &["create", "-q", "-u", "-f", "qcow2"][..],
            &backing,
            &[text(file)?, size],
        ]
        .concat();
        tool("qemu-img", &arguments).map(drop)
    };
    match what {
        "removed" => Ok(()),
        "shrunk" => qcow2(base, "32M"),
        "on no base" => qcow2(None, "64M"),
        "rubbish" => Ok(fs::write(file, vec![0x41; 70_000])?),
        "a link" => Ok(std::os::unix::fs::symlink(aside, file)?),
        other => bail!("no such case: {other}"),
    }
}

/// A start and a snapshot fail, each naming the file, and change nothing.
fn refuses_to_use(daemon: &Daemon, admin: &Api, vm: &str, name: &str) -> Result<()> {
    let before = daemon.estate(admin)?;
    let start = admin.post(&format!("vms/{vm}/start"), "<action/>")?;
    let fault = start.refusal().context("the VM started")?;
    ensure!(
        fault.status == 409 && fault.detail.contains(name),
        "the file is not named: {fault:?}"
    );
    admin.wait_status(&format!("vms/{vm}"), "status", "down", LONG)?;
    let body = "<snapshot><description>doomed</description></snapshot>";
    let answer = admin.post(&format!("vms/{vm}/snapshots"), body)?.expect(&[201, 202])?;
    gone(admin, vm, answer.xml()?.id()?)?;
    let why = told(admin, "69")?;
    ensure!(why.contains(name), "the file is not named: {why}");
    ensure!(daemon.estate(admin)? == before, "something was changed");
    Ok(())
}

#[test]
fn an_image_that_was_removed_or_replaced_is_named_and_nothing_is_started_on_it() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, disks) = vm(&admin, "db1", 2)?;
    admin.snapshot(&vm, "kept", false, None)?;
    let images = admin
        .get(&format!("disks/{}/disksnapshots", disks[1]))?
        .expect(&[200])?
        .xml()?;
    let base = images
        .children
        .first()
        .context("no image below the active one")?
        .id()?
        .to_owned();
    let (base, top) = (
        format!("{base}.qcow2"),
        name_of(&active_file(&daemon, &admin, &disks[1])?)?,
    );
    let aside = daemon.data_dir().join("aside");
    for (name, what) in [
        (&base, "removed"),
        (&top, "removed"),
        (&base, "shrunk"),
        (&top, "shrunk"),
        (&top, "on no base"),
        (&base, "rubbish"),
        (&base, "a link"),
    ] {
        let file = daemon.images_dir().join(name);
        let whole = daemon.estate(&admin)?;
        fs::rename(&file, &aside)?;
        replace(&file, what, (name == &top).then_some(&base), &aside)?;
        refuses_to_use(&daemon, &admin, &vm, name).with_context(|| format!("{name} {what}"))?;
        if what != "removed" {
            fs::remove_file(&file)?;
        }
        fs::rename(&aside, &file)?;
        ensure!(daemon.estate(&admin)? == whole, "{name} {what}: not as it was");
    }
    admin.start(&vm)?;
    admin.stop(&vm)?;
    daemon.scan_log(&[])
}

// ------------------------------------------------------------------------------------------------ adopted files

fn adoption(id: &str, format: &str) -> String {
    format!("<disk id=\"{id}\"><name>adopted</name><format>{format}</format></disk>")
}

/// Brings an overlay on a recorded image, which only an administrator may adopt, once; the new disk's id.
fn adopt_twin(daemon: &Daemon, admin: &Api, base: &str) -> Result<String> {
    let twin = "44444444-4444-4444-8444-444444444444";
    let file = daemon.images_dir().join(format!("{twin}.qcow2"));
    let create = [
        "create",
        "-q",
        "-u",
        "-f",
        "qcow2",
        "-b",
        base,
        "-F",
        "qcow2",
        text(&file)?,
        "64M",
    ];
    tool("qemu-img", &create)?;
    write(&file, 0x33, 8, 4)?;
    let path = format!("storagedomains/{}/disks?unregistered", admin.data_domain()?);
    let list = admin.get(&path)?.expect(&[200])?.xml()?;
    ensure!(
        list.children.iter().any(|disk| disk.id().ok() == Some(twin)),
        "not listed: {list:?}"
    );
    refused(daemon.api("alice")?.post(&path, &adoption(twin, "cow")))?.expect(403, FAILED, &["administrators"])?;
    let disk = admin
        .post(&path, &adoption(twin, "cow"))?
        .expect(&[201, 202])?
        .xml()?
        .id()?
        .to_owned();
    refused(admin.post(&path, &adoption(twin, "cow")))?.expect(409, FAILED, &[twin])?;
    Ok(disk)
}

#[test]
fn adopted_images_take_their_place_in_the_tree_and_keep_their_content() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (one, disks) = vm(&admin, "one", 1)?;
    let base = active_file(&daemon, &admin, &disks[0])?;
    write(&base, 0x11, 0, 4)?;
    let snapshot = admin.snapshot(&one, "shared", false, None)?;
    write(&active_file(&daemon, &admin, &disks[0])?, 0x22, 2, 4)?;
    let twin = adopt_twin(&daemon, &admin, &name_of(&base)?)?;
    let (two, _) = vm(&admin, "two", 0)?;
    admin.attach(&two, &twin, "virtio", true)?;
    // The base has two children now: it stays, whoever gives up the snapshot.
    admin.delete_snapshot(&one, &snapshot)?;
    let first = || -> Result<()> {
        let first = active_file(&daemon, &admin, &disks[0])?;
        shows(&first, 0x11, 0, 2)?;
        shows(&first, 0x22, 2, 4)?;
        shows(&first, 0, 8, 4)
    };
    let both = || -> Result<()> {
        first()?;
        let second = active_file(&daemon, &admin, &twin)?;
        shows(&second, 0x11, 0, 4)?;
        shows(&second, 0x33, 8, 4)
    };
    both()?;
    ensure!(base.exists(), "the shared base is gone");
    admin.start(&two)?;
    let kept = admin.snapshot(&two, "of the twin", false, None)?;
    admin.delete_snapshot(&two, &kept)?;
    admin.stop(&two)?;
    both()?;
    // With the twin gone the hidden base has one user: it is merged without being asked.
    admin.delete(&format!("vms/{two}"))?.expect(&[200])?;
    eventually(LONG, "the hidden image to be merged", || {
        Ok((daemon.image_files()?.len() == 1).then_some(()))
    })
    .with_context(|| format!("{:?}", daemon.image_files()))?;
    first()?;
    admin.start(&one)?;
    admin.stop(&one)?;
    daemon.scan_log(&[])
}

#[test]
fn image_files_over_what_is_not_theirs_are_refused_and_leave_no_row() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (_, disks) = vm(&admin, "one", 1)?;
    let used = active_file(&daemon, &admin, &disks[0])?;
    let used_name = name_of(&used)?;
    let directory = daemon.images_dir();
    let path = format!("storagedomains/{}/disks?unregistered", admin.data_domain()?);
    let id = "55555555-5555-4555-8555-555555555555";
    let file = directory.join(format!("{id}.qcow2"));
    let outside = daemon.data_dir().join("outside.qcow2");
    tool("qemu-img", &["create", "-q", "-f", "qcow2", text(&outside)?, "64M"])?;
    let parent = format!("../images/{used_name}");
    let absolute = text(&used)?;
    let nobody = "66666666-6666-4666-8666-666666666666.qcow2";
    let own = format!("{id}.qcow2");
    let backings = [
        "json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}",
        "nbd://127.0.0.1:10809/x",
        "nbd:unix:/tmp/x:exportname=y",
        &parent,
        "/etc/passwd",
        text(&outside)?,
        absolute,
        nobody,
        &used_name, // an image that a disk writes to
        &own,
    ];
    let before = daemon.estate(&admin)?;
    for backing in backings {
        for format in ["qcow2", "raw"] {
            let arguments = [
                "create",
                "-q",
                "-u",
                "-f",
                "qcow2",
                "-b",
                backing,
                "-F",
                format,
                text(&file)?,
                "64M",
            ];
            tool("qemu-img", &arguments)?;
            let answer = admin.post(&path, &adoption(id, "cow"))?;
            let fault = answer.refusal().with_context(|| format!("{backing} was taken"))?;
            ensure!(fault.status == 409 && fault.detail.contains(id), "{backing}: {fault:?}");
            ensure!(!fault.detail.contains("root:"), "{backing}: a file was read: {fault:?}");
            fs::remove_file(&file)?;
        }
    }
    ensure!(daemon.estate(&admin)? == before, "something was changed");
    daemon.scan_log(&[])
}

#[test]
fn image_files_that_hide_something_are_refused_and_leave_no_row() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let path = format!("storagedomains/{}/disks?unregistered", admin.data_domain()?);
    let id = "55555555-5555-4555-8555-555555555555";
    let file = daemon.images_dir().join(format!("{id}.qcow2"));
    let outside = daemon.data_dir().join("outside.qcow2");
    tool("qemu-img", &["create", "-q", "-f", "qcow2", text(&outside)?, "64M"])?;
    let before = daemon.estate(&admin)?;
    let refuse = |format: &str, words: &[&str]| -> Result<()> {
        let fault = refused(admin.post(&path, &adoption(id, format)))?;
        fault.expect(409, FAILED, &[&[id][..], words].concat())
    };
    let option = format!("data_file={}", text(&daemon.data_dir().join("data.raw"))?);
    tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", &option, text(&file)?, "64M"],
    )?;
    refuse("cow", &["data file"])?;
    fs::remove_file(&file)?;

    std::os::unix::fs::symlink(&outside, &file)?;
    refuse("cow", &["symbolic link"])?;
    fs::remove_file(&file)?;
    fs::create_dir(&file)?;
    refuse("cow", &["directory"])?;
    fs::remove_dir(&file)?;
    fs::hard_link(&outside, &file)?;
    refuse("cow", &["2 names"])?;
    fs::remove_file(&file)?;
    fs::write(&file, [0x41; 70_000])?;
    refuse("cow", &[])?;
    fs::write(&file, "")?;
    refuse("cow", &[])?;
    fs::remove_file(&file)?;

    let raw = daemon.images_dir().join(format!("{id}.raw"));
    fs::copy(&outside, &raw)?;
    refuse("raw", &["qcow2"])?;
    fs::write(&raw, [0x41; 700])?;
    refuse("raw", &["512"])?;
    fs::remove_file(&raw)?;
    let absent = admin.post(&path, &adoption(id, "cow"))?.refusal()?;
    ensure!(absent.status == 400 && absent.detail.contains(id), "{absent:?}");
    ensure!(daemon.estate(&admin)? == before, "something was changed");
    daemon.scan_log(&[])
}
