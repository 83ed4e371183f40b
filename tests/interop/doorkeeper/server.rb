# An authorization server and an API in one: Doorkeeper in a small Rails application. Each new token of a client revokes the last one.

require "logger"
require "rails"
require "active_record/railtie"
require "action_controller/railtie"
require "doorkeeper"
require "puma"
require "sqlite3"

SECRET = "interop-secret-0123456789abcdef0123456789abcdef"
# Each test has a client of its own, so that no test revokes the token of another.
CLIENTS = %w[api refusals revocation replicas replicas-plain scopes]

class Application < Rails::Application
  config.root = __dir__
  config.eager_load = false
  config.secret_key_base = "of these tests"
  config.hosts.clear
  config.logger = Logger.new($stderr)
  config.log_level = :warn
  config.active_record.legacy_connection_handling = false
  config.paths["config/database"] = [File.join(Dir.pwd, "database.yml")]
end

Doorkeeper.configure do
  orm :active_record
  base_controller "ActionController::API"
  grant_flows %w[client_credentials]
  default_scopes :public
  optional_scopes :write
  revoke_previous_client_credentials_token
end

Rails.application.initialize!
ActiveRecord::Base.connection.execute("PRAGMA journal_mode = WAL")

ActiveRecord::Schema.verbose = false
ActiveRecord::Schema.define do
  create_table :oauth_applications do |t|
    t.string :name, null: false
    t.string :uid, null: false, index: { unique: true }
    t.string :secret, null: false
    t.text :redirect_uri
    t.string :scopes, null: false, default: ""
    t.boolean :confidential, null: false, default: true
    t.timestamps null: false
  end
  create_table :oauth_access_tokens do |t|
    t.references :resource_owner
    t.references :application, null: false
    t.string :token, null: false, index: { unique: true }
    t.string :refresh_token
    t.integer :expires_in
    t.datetime :revoked_at
    t.datetime :created_at, null: false
    t.string :scopes
  end
end
CLIENTS.each { |id| Doorkeeper::Application.create!(name: id, uid: id, secret: SECRET, redirect_uri: "", scopes: "public write") }

class ApiController < ActionController::API
  before_action -> { doorkeeper_authorize! }, only: :read
  before_action -> { doorkeeper_authorize! :write }, only: :write

  def read
    render json: { client: doorkeeper_token.application.uid }
  end

  def write
    head :no_content
  end
end

Rails.application.routes.draw do
  use_doorkeeper { skip_controllers :authorizations, :applications, :authorized_applications }
  get "/api", to: "api#read"
  post "/api", to: "api#write"
end

server = Puma::Server.new(Rails.application, Puma::Events.stdio, min_threads: 8, max_threads: 8)
port = server.add_tcp_listener("127.0.0.1", 0).addr[1]
server.run
$stdout.puts "DOORKEEPER=http://127.0.0.1:#{port}", "ready"
$stdout.flush
trap("TERM") { exit! }
sleep
