//! A real headless Chromium (Debian's packages `chromium` and `chromium-driver`), driven as a person would: by what is written on
//! links, buttons and labels, by mouse or by keyboard alone.
//!
//! ```no_run
//! # use stillpoint_system_tests::browser::{Browser, Key, Scheme, Screen};
//! # fn main() -> anyhow::Result<()> {
//! # let daemon = stillpoint_testkit::Daemon::start()?;
//! let browser = Browser::start(&daemon)?;
//! browser.sign_in("admin", "/console/")?;
//! browser.click("Disks")?;
//! browser.wait_place("/console/disks")?;
//! browser.tab_to("Make a disk")?;
//! browser.press(Key::Enter)?;
//! browser.fill("Name", "db1_data")?;
//! browser.screen(Screen::Phone)?;
//! browser.scheme(Scheme::Dark)?;
//! browser.accessible()?;
//! browser.picture("disks-phone-dark")?;
//! browser.finish()?;
//! # Ok(())
//! # }
//! ```
//!
//! Each browser has a driver, a port and a profile of its own, which end with it, also after a panic. What the browser itself
//! complains of (an error in a script, something that the policy of a page forbids, a file that is not there) fails the test at
//! [`Browser::finish`] and at every picture. Nothing sleeps: what needs time is asked again until it is so.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    fs,
    future::Future,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use stillpoint_testkit::{Daemon, Password, eventually, free_port};
use tempfile::TempDir;
use thirtyfour::{
    ChromiumLikeCapabilities as _, DesiredCapabilities, LoggingPrefsLogLevel, TypingData, WebDriver,
    error::WebDriverResult,
};
use tokio::runtime::Runtime;

pub use thirtyfour::Key;

/// How long anything on a page may take; a busy test machine is slow.
const LONG: Duration = Duration::from_secs(60);
/// How long the browser may take to start.
const START: Duration = Duration::from_secs(120);
/// Stops of the Tab key until something must have been reached.
const STOPS_MAX: usize = 400;

/// Sizes of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// 390 x 844, upright.
    Phone,
    /// 1400 x 900.
    Wide,
}

/// What the visitor's system prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    runtime: Runtime,
    /// Taken when it ends.
    driver: Option<WebDriver>,
    process: Child,
    base: String,
    allowed: RefCell<Vec<String>>,
    complaints: RefCell<Vec<String>>,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser, wide and light, for the pages of that daemon.
    ///
    /// # Errors
    /// When Chromium or its driver is missing, or does not start.
    pub fn start(daemon: &Daemon) -> Result<Self> {
        let port = free_port()?;
        let profile = tempfile::Builder::new().prefix("sp-browser-").tempdir()?;
        // A process group of its own, so that all of the browser's processes can be ended.
        let process = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env("TMPDIR", profile.path())
            .env("HOME", profile.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("chromedriver is missing: scripts/install-deps brings it")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let mut browser = Self {
            runtime,
            driver: None,
            process,
            base: daemon.url().to_owned(),
            allowed: RefCell::default(),
            complaints: RefCell::default(),
            _profile: profile,
        };
        eventually(START, "the browser's driver", || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", port)).ok())
        })?;
        let mut wanted = DesiredCapabilities::chrome();
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--no-proxy-server",
            "--hide-scrollbars",
        ] {
            wanted.add_arg(argument)?;
        }
        let data = browser._profile.path().join("profile");
        wanted.add_arg(&format!("--user-data-dir={}", data.display()))?;
        wanted.set_browser_log_level(LoggingPrefsLogLevel::All)?;
        let server = format!("http://127.0.0.1:{port}");
        let started = WebDriver::builder(server, wanted).request_timeout(START).connect();
        browser.driver = Some(browser.runtime.block_on(started).context("starting Chromium")?);
        browser.screen(Screen::Wide)?;
        browser.scheme(Scheme::Light)?;
        Ok(browser)
    }

    fn driver(&self) -> &WebDriver {
        self.driver.as_ref().expect("taken in drop only")
    }

    fn wait_for<T>(&self, what: impl Future<Output = WebDriverResult<T>>) -> Result<T> {
        Ok(self.runtime.block_on(what)?)
    }

    /// Sends a command of the Chrome DevTools Protocol.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Result<Value> {
        let cdp = self.driver().cdp();
        self.wait_for(cdp.send_raw(command, parameters))
            .with_context(|| command.to_owned())
    }

    /// Sets the size of the window.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub fn screen(&self, screen: Screen) -> Result<()> {
        let (width, height) = match screen {
            Screen::Phone => (390, 844),
            Screen::Wide => (1400, 900),
        };
        // The window itself cannot be narrower than 500 pixels.
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size).map(drop)
    }

    /// Sets what the visitor's system prefers; motion is always unwanted.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub fn scheme(&self, scheme: Scheme) -> Result<()> {
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!([
            {"name": "prefers-color-scheme", "value": value},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }))
            .map(drop)
    }

    /// Opens a page by its path, and waits until it is loaded.
    ///
    /// # Errors
    /// When it cannot be loaded; a page that answers 404 is loaded.
    pub fn open(&self, path: &str) -> Result<()> {
        self.wait_for(self.driver().goto(format!("{}{path}", self.base)))
            .with_context(|| format!("opening {path}"))
    }

    /// Signs a user of the test bootstrap in, on the way to a page, and waits until he is there.
    ///
    /// # Errors
    /// When he does not arrive.
    pub fn sign_in(&self, user: &str, path: &str) -> Result<()> {
        self.open(path)?;
        self.wait_place("/console/login")?;
        self.fill("User", user)?;
        self.fill("Password", Password::of(user)?.0)?;
        self.click("Sign in")?;
        let wanted = path.to_owned();
        self.wait(&format!("{path} after signing in"), |browser| {
            Ok(browser.place()? == wanted)
        })
    }

    /// Path and query of the page.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn place(&self) -> Result<String> {
        self.text_of_script("return location.pathname + location.search")
    }

    /// Runs a script in the page (the page's policy does not hold for it); what it returns.
    ///
    /// # Errors
    /// When it throws.
    pub fn run(&self, script: &str, arguments: &[Value]) -> Result<Value> {
        let done = self.wait_for(self.driver().execute(script, arguments.to_vec()));
        Ok(done
            .with_context(|| script.chars().take(200).collect::<String>())?
            .json()
            .clone())
    }

    fn text_of_script(&self, script: &str) -> Result<String> {
        let value = self.run(script, &[])?;
        value
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("{script}: {value}"))
    }

    /// Waits until something is so. `what` completes the sentence "waited 60s for ...".
    ///
    /// # Errors
    /// When it does not become so in a minute: what is on the page.
    pub fn wait(&self, what: &str, mut is_so: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        // A page may be between two pages, or a region be replaced, just when it is looked at.
        let waited = eventually(LONG, what, || Ok(is_so(self).unwrap_or(false).then_some(())));
        waited.with_context(|| {
            let place = self.place().unwrap_or_default();
            format!("on {place} is\n{}", self.text("body").unwrap_or_default())
        })
    }

    /// Waits until the page's path (without its query) is this.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn wait_place(&self, path: &str) -> Result<()> {
        self.wait(&format!("the page {path}"), |browser| {
            Ok(browser.place()?.split('?').next() == Some(path))
        })
    }

    /// Waits until the text is on the page, as it is shown.
    ///
    /// # Errors
    /// When it does not appear.
    pub fn wait_text(&self, text: &str) -> Result<()> {
        self.wait(&format!("{text:?}"), |browser| Ok(browser.text("body")?.contains(text)))
    }

    /// Waits until the text is not on the page any more.
    ///
    /// # Errors
    /// When it stays.
    pub fn wait_gone(&self, text: &str) -> Result<()> {
        self.wait(&format!("{text:?} to be gone"), |browser| {
            Ok(!browser.text("body")?.contains(text))
        })
    }

    /// The text of the first element that the selector finds, as it is shown.
    ///
    /// # Errors
    /// When there is none.
    pub fn text(&self, selector: &str) -> Result<String> {
        let script = "const one = document.querySelector(arguments[0]); return one && one.innerText";
        let text = self.run(script, &[json!(selector)])?;
        text.as_str()
            .map(str::to_owned)
            .with_context(|| format!("no {selector}"))
    }

    /// Texts of all elements that the selector finds.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn texts(&self, selector: &str) -> Result<Vec<String>> {
        let script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)";
        let texts = self.run(script, &[json!(selector)])?;
        let texts = texts.as_array().context("a list")?.iter();
        Ok(texts.filter_map(|text| text.as_str().map(str::to_owned)).collect())
    }

    /// Whether the selector finds something.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn has(&self, selector: &str) -> Result<bool> {
        let found = self.run(
            "return document.querySelector(arguments[0]) !== null",
            &[json!(selector)],
        )?;
        found.as_bool().context("a boolean")
    }

    /// What is in the field with that label.
    ///
    /// # Errors
    /// When there is none.
    pub fn value(&self, label: &str) -> Result<String> {
        let script = format!("{FIELD} return field(arguments[0]).value");
        let value = self.run(&script, &[json!(label)])?;
        value.as_str().map(str::to_owned).context("a text")
    }

    /// Clicks on the link, button or summary on which that is written. Waits until there is one.
    ///
    /// # Errors
    /// When there is none, or something lies over it.
    pub fn click(&self, name: &str) -> Result<()> {
        let find = format!("{NAMED} return named(arguments[0])");
        self.click_found(&find, name)
    }

    /// Clicks on the first element that the selector finds. Waits until there is one.
    ///
    /// # Errors
    /// When there is none, or something lies over it.
    pub fn click_on(&self, selector: &str) -> Result<()> {
        self.click_found("return document.querySelector(arguments[0])", selector)
    }

    fn click_found(&self, find: &str, what: &str) -> Result<()> {
        let mut last = None;
        let waited = eventually(LONG, &format!("{what:?} to click on"), || {
            let clicked = self.runtime.block_on(async {
                let found = self.driver().execute(find, vec![json!(what)]).await?;
                found.element()?.click().await
            });
            Ok(clicked.map_err(|error| last = Some(error)).ok())
        });
        waited.with_context(|| {
            let page = self.text("body").unwrap_or_default();
            last.map_or(page.clone(), |error| format!("{error}, on\n{page}"))
        })
    }

    /// Types into the field with that label, in place of what is in it; or chooses the entry with that text, if it is a list.
    /// Waits until there is one.
    ///
    /// # Errors
    /// When there is none.
    pub fn fill(&self, label: &str, text: &str) -> Result<()> {
        let find = format!("{FIELD} return field(arguments[0])");
        let mut last = None;
        let waited = eventually(LONG, &format!("the field {label:?}"), || {
            let filled = self.runtime.block_on(async {
                let field = self
                    .driver()
                    .execute(find.as_str(), vec![json!(label)])
                    .await?
                    .element()?;
                if field.tag_name().await? != "select" {
                    field.clear().await?;
                }
                field.send_keys(text).await
            });
            Ok(filled.map_err(|error| last = Some(error)).ok())
        });
        waited.with_context(|| last.map(|error| error.to_string()).unwrap_or_default())
    }

    /// Presses a key, for whatever has the focus.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub fn press(&self, key: Key) -> Result<()> {
        self.keys(key)
    }

    /// Types, for whatever has the focus.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub fn keys(&self, keys: impl Into<TypingData>) -> Result<()> {
        let keys = keys.into();
        self.wait_for(self.driver().action_chain().send_keys(keys).perform())
    }

    /// Presses Tab until the link, button, summary or field has the focus on or at which that is written.
    ///
    /// # Errors
    /// When the keyboard does not reach it.
    pub fn tab_to(&self, name: &str) -> Result<()> {
        let mut seen = Vec::new();
        for _ in 0..STOPS_MAX {
            self.press(Key::Tab)?;
            let here = self.focused()?;
            if here == name {
                return self.focus_is_seen();
            }
            seen.push(here);
        }
        seen.dedup();
        bail!(
            "the Tab key does not lead to {name:?}, only to {:?}",
            &seen[..seen.len().min(60)]
        )
    }

    /// What is written on or at the element that has the focus; empty if none has.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn focused(&self) -> Result<String> {
        self.text_of_script(
            "const one = document.activeElement;
             if (!one || one === document.body) return '';
             const label = one.labels && one.labels[0];
             return (one.getAttribute('aria-label') || (label ? label.innerText : one.innerText || one.value || '')).trim();",
        )
    }

    fn focus_is_seen(&self) -> Result<()> {
        let outline = self.text_of_script("return getComputedStyle(document.activeElement).outlineStyle")?;
        ensure!(
            outline != "none",
            "{:?} does not show that it has the focus",
            self.focused()?
        );
        Ok(())
    }

    /// The pair NAME=VALUE of a cookie, which scripts of the page cannot read.
    ///
    /// # Errors
    /// When there is none.
    pub fn session_cookie(&self, name: &str) -> Result<String> {
        let all = self.devtools(
            "Network.getCookies",
            &json!({"urls": [format!("{}/console/", self.base)]}),
        )?;
        let found = all["cookies"]
            .as_array()
            .context("a list")?
            .iter()
            .find(|cookie| cookie["name"] == name);
        let value = found.and_then(|cookie| cookie["value"].as_str());
        Ok(format!(
            "{name}={}",
            value.with_context(|| format!("no cookie {name}"))?
        ))
    }

    /// Expects the browser to complain with these words, as of a page that is refused.
    pub fn allow(&self, words: &str) {
        self.allowed.borrow_mut().push(words.to_owned());
    }

    /// Looks at what the browser has complained of so far.
    ///
    /// # Errors
    /// When it has, and nothing of [`Self::allow`] expected it.
    pub fn quiet(&self) -> Result<()> {
        let entries = self.wait_for(self.driver().browser_log())?;
        for entry in entries {
            let is_page = entry.source.as_deref() == Some("network")
                && !entry.message.contains("/console/assets/")
                && entry.message.contains("the server responded with a status of 4");
            // A page that is refused is a page; a hint of the browser is no complaint.
            if is_page || !matches!(entry.level.as_str(), "SEVERE" | "WARNING") {
                continue;
            }
            self.complaints
                .borrow_mut()
                .push(format!("{} {}", entry.level, entry.message));
        }
        let allowed = self.allowed.borrow();
        let complaints = self.complaints.borrow();
        let bad: Vec<_> = complaints
            .iter()
            .filter(|complaint| !allowed.iter().any(|words| complaint.contains(words.as_str())))
            .collect();
        ensure!(bad.is_empty(), "the browser complains: {bad:#?}");
        Ok(())
    }

    /// Takes a picture of the whole page into `target/screens/NAME.png`.
    ///
    /// # Errors
    /// When the browser has complained, or there is no picture.
    pub fn picture(&self, name: &str) -> Result<PathBuf> {
        self.quiet()?;
        let taken = self.devtools(
            "Page.captureScreenshot",
            &json!({"format": "png", "captureBeyondViewport": true}),
        )?;
        let png = base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().context("a picture")?)?;
        let directory = target()?.join("screens");
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{name}.png"));
        fs::write(&path, png)?;
        Ok(path)
    }

    /// Lets axe-core look at the page.
    ///
    /// # Errors
    /// When it finds a serious or critical violation, or the page is wider than the window.
    pub fn accessible(&self) -> Result<()> {
        let place = self.place()?;
        if self.run("return window.axe === undefined", &[])? == json!(true) {
            self.run(&axe()?, &[])?;
        }
        let script = "const done = arguments[0];
            axe.run(document, { resultTypes: ['violations'] }).then(
                (found) => done(found.violations.filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) =>
                    `${one.impact}: ${one.help} (${one.id}): ${one.nodes.slice(0, 5).map((node) => node.html + ' - ' + node.failureSummary).join('; ')}`)),
                (error) => done([String(error)]));";
        let found = self.wait_for(self.driver().execute_async(script, Vec::new()))?;
        ensure!(found.json() == &json!([]), "{place}: {:#}", found.json());
        let wide = self.run("return document.documentElement.scrollWidth - innerWidth", &[])?;
        ensure!(
            wide.as_i64().is_some_and(|pixels| pixels <= 0),
            "{place} is {wide} pixels wider than the window"
        );
        Ok(())
    }

    /// The same in light and dark, on a wide screen and a phone, with pictures NAME, NAME-dark and NAME-phone. Leaves it wide and
    /// light.
    ///
    /// # Errors
    /// See [`Self::accessible`].
    pub fn looks(&self, name: &str) -> Result<()> {
        self.accessible().with_context(|| format!("{name}, light"))?;
        self.picture(name)?;
        self.scheme(Scheme::Dark)?;
        self.accessible().with_context(|| format!("{name}, dark"))?;
        self.picture(&format!("{name}-dark"))?;
        self.scheme(Scheme::Light)?;
        self.screen(Screen::Phone)?;
        self.accessible().with_context(|| format!("{name}, on a phone"))?;
        self.picture(&format!("{name}-phone"))?;
        self.screen(Screen::Wide)
    }

    /// Ends the browser.
    ///
    /// # Errors
    /// When it has complained.
    pub fn finish(self) -> Result<()> {
        self.quiet()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() && self.driver.is_some() {
            let shown = self.picture_of_failure();
            eprintln!("--- the browser was at {:?}, {shown:?}", self.place());
        }
        if let Some(driver) = self.driver.take() {
            let quit = async { tokio::time::timeout(Duration::from_secs(20), driver.quit()).await };
            if let Err(error) = self.runtime.block_on(quit) {
                eprintln!("the browser did not quit: {error}");
            }
        }
        // What has not ended by itself.
        let group = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            eprintln!("ending the browser: {error}");
        }
        if let Err(error) = self.process.wait() {
            eprintln!("ending the browser's driver: {error}");
        }
    }
}

impl Browser {
    /// A picture without asking what the browser complains of.
    fn picture_of_failure(&self) -> Result<PathBuf> {
        let taken = self.devtools("Page.captureScreenshot", &json!({"format": "png"}))?;
        let png = base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().context("a picture")?)?;
        let directory = target()?.join("screens");
        fs::create_dir_all(&directory)?;
        let path = directory.join("failed.png");
        fs::write(&path, png)?;
        Ok(path)
    }
}

/// The field with a label.
const FIELD: &str = "const field = (text) => [...document.querySelectorAll('label')]
    .filter((one) => one.innerText.trim() === text).map((one) => one.control).find((one) => one);";
/// The link, button or summary with a name: what is written on it, or what a screen reader says.
const NAMED: &str = "const named = (text) => [...document.querySelectorAll('a[href], button, summary, [role=button]')]
    .filter((one) => one.checkVisibility())
    .find((one) => (one.getAttribute('aria-label') || one.innerText).trim() === text);";

/// The text of axe-core: `STILLPOINT_TEST_AXE`, else the one that `scripts/make-venv` put beside the Python of the tests.
fn axe() -> Result<String> {
    let path = std::env::var_os("STILLPOINT_TEST_AXE").map_or_else(
        || {
            let python = crate::sdk::python();
            let venv = python.ancestors().nth(2).unwrap_or(Path::new("."));
            venv.join("axe/axe.min.js")
        },
        PathBuf::from,
    );
    fs::read_to_string(&path).with_context(|| format!("{} is missing: scripts/make-venv brings it", path.display()))
}

/// The directory `target`.
fn target() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let found = exe.ancestors().find(|path| path.ends_with("deps"));
    let found = found.and_then(|deps| deps.parent()?.parent());
    Ok(found.context("this test lies in no target directory")?.to_owned())
}
