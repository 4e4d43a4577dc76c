//! Tells the cluster new client URLs, one publication after the other, so that the last wish is
//! also the last that the cluster hears. A wish that a later one replaced in the meantime is left
//! out.
//!
//! A publication needs a leader, so nobody waits for it. The task ends with this value.

use althing_actors::node::Handles;
use althing_api::error::Error;
use tokio::sync::watch;

/// Publishes the newest URLs.
#[derive(Debug)]
pub(crate) struct Publisher(watch::Sender<Vec<String>>);

impl Publisher {
    /// Publishes what is wished from now on. Must be called inside an actix system.
    pub(crate) fn start(handles: Handles) -> Publisher {
        Publisher::with(async move |urls| handles.publish_client_urls(urls).await)
    }

    fn with(publish: impl AsyncFn(Vec<String>) -> Result<(), Error> + 'static) -> Publisher {
        let (wishes, mut wished) = watch::channel(Vec::new());
        actix_rt::spawn(async move {
            while wished.changed().await.is_ok() {
                let client_urls = wished.borrow_and_update().clone();
                let urls = client_urls.join(",");
                match publish(client_urls).await {
                    Ok(()) => tracing::info!(urls, "published new client URLs"),
                    Err(error) => tracing::warn!(
                        %error,
                        urls,
                        "the new client URLs could not be published; the next start does it"
                    ),
                }
            }
        });
        Publisher(wishes)
    }

    /// Publishes `client_urls`, in place of wishes that are not published yet.
    pub(crate) fn wish(&self, client_urls: Vec<String>) {
        self.0.send_replace(client_urls);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::sync::Notify;

    use super::*;

    #[test]
    fn the_last_wish_is_published_last_and_what_nobody_wishes_any_more_is_not() {
        actix_rt::System::new().block_on(async {
            let published = Rc::new(RefCell::new(Vec::new()));
            let (begun, go_on) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
            let (list, tell, wait) = (published.clone(), begun.clone(), go_on.clone());
            let publisher = Publisher::with(async move |urls: Vec<String>| {
                tell.notify_one();
                wait.notified().await;
                list.borrow_mut().extend(urls);
                Ok(())
            });
            publisher.wish(vec!["first".into()]);
            begun.notified().await;
            publisher.wish(vec!["second".into()]);
            publisher.wish(vec!["third".into()]);
            go_on.notify_one();
            begun.notified().await;
            go_on.notify_one();
            while published.borrow().len() < 2 {
                tokio::task::yield_now().await;
            }
            assert_eq!(*published.borrow(), ["first", "third"]);
        });
    }
}
