//! A member that exports spans, and a collector that takes them in.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use althing_api::etcdserverpb::kv_client::KvClient;
use althing_api::etcdserverpb::{PutRequest, RangeRequest};
use althing_conf::Config;
use althing_daemon::{boot, shutdown, spans};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Hands on what is exported to it.
#[derive(Clone)]
struct Collector(mpsc::UnboundedSender<ResourceSpans>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            self.0.send(spans).unwrap();
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn serve(listener: TcpListener, collector: Collector) {
    loop {
        let (io, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(TraceServiceServer::new(collector.clone()));
        let server = http2::Builder::new(TokioExecutor::new());
        let connection = server.serve_connection(TokioIo::new(io), service);
        actix_rt::spawn(async { drop(connection.await) });
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn value_of<'a>(attributes: &'a [KeyValue], key: &str) -> &'a any_value::Value {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    let value = found.unwrap_or_else(|| panic!("no {key}")).value.as_ref();
    value.unwrap().value.as_ref().unwrap()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

/// Runs a member that exports to `collector`, has it do a put in a trace and a range outside one.
async fn run(collector: &str) {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data").display().to_string();
    let args = [
        "althingd",
        "--data-dir",
        &data_dir,
        "--listen-client-urls=http://127.0.0.1:0",
        "--advertise-client-urls=http://127.0.0.1:0",
        "--listen-peer-urls=http://127.0.0.1:0",
        "--wal-segment-bytes=4MiB",
        "--enable-distributed-tracing",
        "--distributed-tracing-address",
        collector,
        "--distributed-tracing-instance-id=one",
    ];
    let config = Config::load(args.map(Into::into), []).unwrap().config;
    let export = spans::start(&config.trace).unwrap();
    let running = boot::start(&config).await.unwrap();
    let address = running.client_addresses()[0];
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = KvClient::new(channel.connect().await.unwrap());
    let mut put = Request::new(PutRequest {
        key: "k".into(),
        ..PutRequest::default()
    });
    let parent = format!("00-{TRACE}-{PARENT}-01").parse().unwrap();
    put.metadata_mut().insert("traceparent", parent);
    client.put(put).await.unwrap();
    let range = RangeRequest {
        key: "k".into(),
        ..RangeRequest::default()
    };
    client.range(range).await.unwrap();
    drop(client);
    shutdown::stop(running).await;
    export.end().await;
}

#[test]
fn a_put_is_a_span_of_the_trace_that_its_client_began() {
    actix_rt::System::new().block_on(async {
        let (sender, mut exported) = mpsc::unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let collecting = actix_rt::spawn(serve(listener, Collector(sender)));
        let in_time = tokio::time::timeout(PATIENCE, run(&address)).await;
        in_time.expect("the member should have ended by now");
        collecting.abort();
        let mut spans = Vec::new();
        while let Ok(of_resource) = exported.try_recv() {
            let resource = of_resource.resource.unwrap().attributes;
            let text = |text: &str| any_value::Value::StringValue(text.to_owned());
            assert_eq!(value_of(&resource, "service.name"), &text("etcd"));
            assert_eq!(value_of(&resource, "service.instance.id"), &text("one"));
            spans.extend(of_resource.scope_spans.into_iter().flat_map(|it| it.spans));
        }
        let put = named(&spans, "etcdserverpb.KV/Put");
        assert_eq!(hex(&put.parent_span_id), PARENT);
        assert_eq!(put.kind(), SpanKind::Server);
        let code = value_of(&put.attributes, "rpc.grpc.status_code");
        assert_eq!(code, &any_value::Value::IntValue(0));
        let propose = named(&spans, "propose");
        assert_eq!(propose.parent_span_id, put.span_id);
        assert!(propose.start_time_unix_nano >= put.start_time_unix_nano);
        assert!(propose.end_time_unix_nano <= put.end_time_unix_nano);
        // The rate is 0, so what begins here is not exported.
        assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    });
}
