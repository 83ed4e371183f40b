use http::Request;
use tower::{Layer, Service, util::BoxCloneService};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError,
    add_access_token::{BufferBody, BufferedBody},
};

type Http = BoxCloneService<Request<Vec<u8>>, http::Response<Vec<u8>>, BoxError>;

pub fn api(http: Http, layer: AddAccessTokenLayer) -> impl Service<Request<Vec<u8>>> {
    let wrap = |_: BufferedBody<Vec<u8>>| Vec::new();
    layer.resend(BufferBody::new(1024, wrap)).layer(http)
}
