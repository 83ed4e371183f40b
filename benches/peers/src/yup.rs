//! `yup-oauth2`: an authorized user. Its token URI is fixed, so a connector sends every request to the endpoint on loopback.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Uri};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpStream;
use yup_oauth2::{
    AuthorizedUserAuthenticator, CustomHyperClientBuilder, authenticator::Authenticator,
    authorized_user::AuthorizedUserSecret,
};

use crate::{
    BoxError, Peer, bearer,
    endpoint::{CLIENT_ID, CLIENT_SECRET, Endpoint, SCOPE},
};

#[derive(Clone)]
pub struct Yup(Authenticator<Loopback>);

impl Yup {
    pub async fn new(endpoint: &Endpoint) -> Result<Self, BoxError> {
        let connector = Loopback(endpoint.listen().await?);
        let client = Client::builder(TokioExecutor::new()).build::<_, String>(connector);
        let secret = AuthorizedUserSecret {
            client_id: CLIENT_ID.into(),
            client_secret: CLIENT_SECRET.into(),
            refresh_token: "1//0refresh".into(),
            key_type: "authorized_user".into(),
        };
        let client = CustomHyperClientBuilder::from(client);
        let authenticator = AuthorizedUserAuthenticator::with_client(secret, client);
        Ok(Self(authenticator.build().await?))
    }
}

impl Peer for Yup {
    async fn authorization(&self) -> Result<HeaderValue, BoxError> {
        let token = self.0.token(&[SCOPE]).await?;
        bearer(token.token().ok_or("no token")?)
    }
}

#[derive(Clone)]
pub struct Loopback(SocketAddr);

impl tower::Service<Uri> for Loopback {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0;
        Box::pin(async move { Ok(TokioIo::new(TcpStream::connect(address).await?)) })
    }
}
