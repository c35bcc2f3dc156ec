// SPDX-License-Identifier: MIT OR Apache-2.0
//! A headless Chromium for tests, driven by chromedriver over the WebDriver protocol (w3.org/TR/webdriver2). Every wait has a limit.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long an answer may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// Keys as WebDriver names them.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const RIGHT: &str = "\u{e014}";

/// A browser with one window.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// The user's data, removed at the end.
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; `None` with a printed reason where Chromium or its driver is not installed.
    pub fn start(width: u32, height: u32) -> Option<Self> {
        let has = |program: &str| Command::new(program).arg("--version").output().is_ok_and(|run| run.status.success());
        if !has("chromium") || !has("chromedriver") {
            println!("skipped: chromium and chromium-driver are not installed; scripts/test_tools.sh installs them");
            return None;
        }
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = driver.unwrap();
        let mut said = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = said.find_map(|line| line.strip_suffix('.')?.rsplit_once("on port ")?.1.parse().ok());
        // It must not wait for a reader of what it says.
        std::thread::spawn(move || said.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self { driver, port: port.unwrap(), session: String::new(), _profile: profile };
        let data = format!("--user-data-dir={}", browser._profile.path().display());
        let size = format!("--window-size={width},{height}");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &data,
            &size,
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "timeouts": {"script": 60_000, "pageLoad": 90_000, "implicit": 0},
        }}});
        let answer = browser.request("POST", "/session", &capabilities);
        browser.session = format!("/session/{}", answer["sessionId"].as_str().unwrap());
        // Windows are not as narrow as the screen of a phone.
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        let command = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": screen});
        browser.post("goog/cdp/execute", &command);
        Some(browser)
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_request(method, path, body);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn try_request(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let exchange = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let body = if method == "POST" { body.to_string() } else { String::new() };
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            )?;
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap_or(0);
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut text = vec![0; length];
            reader.read_exact(&mut text)?;
            Ok::<_, std::io::Error>(text)
        };
        let text = exchange().map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let value = answer["value"].clone();
        if value["error"].is_string() { Err(value.to_string()) } else { Ok(value) }
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        self.request("POST", &format!("{}/{command}", self.session), body)
    }

    /// Opens an address and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// Runs a script and returns what it returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Returns the text of the first element of a selector, as a user sees it.
    pub fn text(&self, selector: &str) -> String {
        let element = self.find(selector);
        let text = self.request("GET", &format!("{}/element/{element}/text", self.session), &Value::Null);
        text.as_str().unwrap().to_owned()
    }

    /// Counts the elements of a selector.
    pub fn count(&self, selector: &str) -> usize {
        let found = self.post("elements", &json!({"using": "css selector", "value": selector}));
        found.as_array().unwrap().len()
    }

    /// Clicks on the first element of a selector with the mouse. The driver fails if another element covers it.
    pub fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.post(&format!("element/{element}/click"), &json!({}));
    }

    /// Types into the first element of a selector.
    pub fn type_into(&self, selector: &str, keys: &str) {
        let element = self.find(selector);
        self.post(&format!("element/{element}/value"), &json!({ "text": keys }));
    }

    /// Types into what has the focus.
    pub fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()})))
            .collect();
        self.post("actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    /// Waits until a script returns true.
    pub fn wait_for(&self, script: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.run(script) != json!(true) {
            assert!(Instant::now() < deadline, "{script} does not become true");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sets features of the medium (`prefers-color-scheme`).
    pub fn emulate(&self, name: &str, value: &str) {
        let command =
            json!({"cmd": "Emulation.setEmulatedMedia", "params": {"features": [{"name": name, "value": value}]}});
        self.post("goog/cdp/execute", &command);
    }

    /// Makes a PDF, and returns its bytes in base 64.
    pub fn print(&self) -> String {
        self.post("print", &json!({})).as_str().unwrap().to_owned()
    }

    fn find(&self, selector: &str) -> String {
        let found = self.post("element", &json!({"using": "css selector", "value": selector}));
        // The name is a constant of the protocol.
        found["element-6066-11e4-a52e-4f735466cecf"].as_str().unwrap().to_owned()
    }

    /// Returns the messages in the console since the last call.
    pub fn console(&self) -> Vec<String> {
        self.log("browser").iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// Returns the addresses that the browser requested since the last call, other than data URIs.
    pub fn requests(&self) -> Vec<String> {
        let messages = self.log("performance");
        let events = messages
            .iter()
            .map(|entry| serde_json::from_str::<Value>(entry["message"].as_str().unwrap()).unwrap()["message"].clone());
        events
            .filter(|event| event["method"] == "Network.requestWillBeSent")
            .map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned())
            .filter(|url| !url.starts_with("data:"))
            .collect()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.post("se/log", &json!({ "type": kind })).as_array().unwrap().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.try_request("DELETE", &self.session, &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
