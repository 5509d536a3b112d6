//! Clients of Paperclip's API, shared by the runs of a host.

use std::sync::Mutex;

use paperclip_shell::{PaperclipApi, UrlError};

/// Most URLs whose clients are kept. A host serves one Paperclip, whose URL may change when it is rolled out.
const KEPT: usize = 4;

/// Clients of Paperclip's API, one per URL: a client holds connections and the system's certificates.
#[derive(Debug, Default)]
pub struct PaperclipApis {
    /// URLs as they were given, the oldest first.
    clients: Mutex<Vec<(String, PaperclipApi)>>,
}

impl PaperclipApis {
    /// Returns the client for a URL.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn get(&self, url: &str) -> Result<PaperclipApi, UrlError> {
        // A panic while the lock was held left a whole list.
        let mut clients = self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| known == url) {
            return Ok(client.clone());
        }
        let client = PaperclipApi::new(url)?;
        if clients.len() == KEPT {
            clients.remove(0);
        }
        clients.push((url.to_owned(), client.clone()));
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_clients_of_the_last_urls() {
        let apis = PaperclipApis::default();
        for n in 0..KEPT + 3 {
            let url = format!("http://paperclip-{n}:3100/");
            for _ in 0..2 {
                assert_eq!(apis.get(&url).expect("good").url(), url.trim_end_matches('/'));
            }
        }
        assert_eq!(apis.clients.lock().expect("whole").len(), KEPT);
        assert!(apis.get("ftp://paperclip").is_err());
    }
}
