//! `CloneService`: a bound whose error tells how to make a service `Clone`.

/// A service that can be cloned. Implemented for every `Clone` type.
///
/// The services of this crate clone the service that they wrap: a request that must first obtain a token or a credential gives the
/// instance back that was made ready, and a clone sends it later.
///
/// A service that is not `Clone` can be wrapped. tower's `Buffer` runs it on a task of its own. `BoxCloneService` erases the type of a
/// service that is `Clone`, in place of `BoxService`.
///
/// This trait is sealed: other types cannot implement it.
///
/// # Examples
///
/// ```
/// use tower::{ServiceBuilder, service_fn, util::BoxService};
/// use tower_oauth2_client::{CloneService, TokenRequest};
///
/// fn check(_: &impl CloneService) {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let boxed = BoxService::new(service_fn(|_: TokenRequest| async { Ok::<_, std::io::Error>(()) }));
/// let buffered = ServiceBuilder::new().buffer(16).service(boxed);
/// check(&buffered);
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "the service `{Self}` is not `Clone`",
    label = "this service is not `Clone`",
    note = "wrap it with tower's `Buffer`, whose handles are `Clone`: `ServiceBuilder::new().buffer(1024).service(service)`",
    note = "if it was boxed to erase its type, use `BoxCloneService` in place of `BoxService`"
)]
pub trait CloneService: Clone + sealed::Sealed {}

#[diagnostic::do_not_recommend]
impl<S: Clone> CloneService for S {}

mod sealed {
    pub trait Sealed {}

    impl<S> Sealed for S {}
}
