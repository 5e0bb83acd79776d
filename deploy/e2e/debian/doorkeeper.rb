# Doorkeeper with doorkeeper-openid_connect of the Debian packages, in the smallest Rails there is,
# with the tables and settings that their generators make.
#
#   doorkeeper.rb PORT BASE_URL REDIRECT_URI KEY_FILE FOLDER PASSWORD CLIENTS USER...
#
# CLIENTS is {"basic":{"ID":...,"Secret":...},...}. POST /rig/delete?user=... and
# /rig/tokens?user=... are the administrator's.
require "json"
require "logger"
require "rack"
require "rails"
require "active_record/railtie"
require "action_controller/railtie"
require "action_view/railtie"
require "doorkeeper"
require "doorkeeper/openid_connect"
require "rack/handler/webrick"

PORT, BASE, REDIRECT, KEY, FOLDER, PASSWORD, CLIENTS, *PEOPLE = ARGV
ENV["DATABASE_URL"] = "sqlite3:#{FOLDER}/db.sqlite3?timeout=20000&pool=20"

class App < Rails::Application
  config.root = FOLDER
  config.eager_load = false
  config.secret_key_base = "a-secret-for-a-test-alone-" * 4
  config.hosts.clear
  config.logger = Logger.new($stderr)
  config.log_level = :error
  config.session_store :cookie_store, key: "rig"
  config.active_record.legacy_connection_handling = false if config.active_record.respond_to?(:legacy_connection_handling=)
end

class ApplicationController < ActionController::Base; end

Doorkeeper.configure do
  orm :active_record
  base_controller "ApplicationController"
  resource_owner_authenticator do
    User.find_by(id: session[:user]) || begin
      session[:back] = request.fullpath
      redirect_to "/login"
      nil
    end
  end
  default_scopes :openid
  optional_scopes :email, :profile, :groups
  use_refresh_token
  force_ssl_in_redirect_uri false
  # The consent page of doorkeeper-openid_connect 1.8.0 loses the nonce.
  skip_authorization { true }
end

Doorkeeper::OpenidConnect.configure do
  issuer BASE
  signing_key File.read(KEY)
  protocol { :http }
  subject_types_supported [:public]
  resource_owner_from_access_token { |token| User.find_by(id: token.resource_owner_id) }
  auth_time_from_resource_owner { |_| Time.now }
  reauthenticate_resource_owner { |_, _| }
  subject { |user, _| user.id }
  claims do
    claim(:email, scope: :email, response: [:id_token, :user_info]) { |user| "#{user.name}@example.com" }
    claim(:email_verified, scope: :email, response: [:id_token, :user_info]) { |_| true }
    claim(:name, scope: :profile, response: [:id_token, :user_info]) { |user| user.name }
    claim(:groups, scope: :groups, response: [:id_token, :user_info]) { |_| %w[admins staff] }
  end
end

# As Doorkeeper's guide has it.
class User < ActiveRecord::Base
  has_many :access_grants, class_name: "Doorkeeper::AccessGrant", foreign_key: :resource_owner_id, dependent: :delete_all
  has_many :access_tokens, class_name: "Doorkeeper::AccessToken", foreign_key: :resource_owner_id, dependent: :delete_all
end

class RigController < ApplicationController
  skip_forgery_protection raise: false

  def ready = render(plain: "ready")

  def login
    if request.get?
      render inline: '<form method="post" action="/login"><input name="username"><input type="password" name="password"></form>', content_type: "text/html"
    else
      raise "password" unless params[:password] == PASSWORD
      session[:user] = User.find_by!(name: params[:username]).id
      redirect_to session[:back]
    end
  end

  def administer
    user = User.find_by!(name: params[:user])
    if params[:what] == "delete"
      user.destroy
    else
      Doorkeeper::AccessToken.revoke_all_for(Doorkeeper::Application.find_by!(uid: "bouncer").id, user)
    end
    head :no_content
  end
end

App.initialize!
App.routes.draw do
  use_doorkeeper
  use_doorkeeper_openid_connect
  get "ready", to: "rig#ready"
  match "login", to: "rig#login", via: %i[get post]
  post "rig/:what", to: "rig#administer"
end

ActiveRecord::Base.establish_connection(ENV["DATABASE_URL"])
unless ActiveRecord::Base.connection.table_exists?("users")
  ActiveRecord::Schema.verbose = false
  ActiveRecord::Schema.define do
    create_table(:users) { |t| t.string :name }
    create_table(:oauth_applications) do |t|
      t.string :name, null: false
      t.string :uid, null: false, index: { unique: true }
      t.string :secret, null: false
      t.text :redirect_uri, null: false
      t.string :scopes, null: false, default: ""
      t.boolean :confidential, null: false, default: true
      t.timestamps null: false
    end
    create_table(:oauth_access_grants) do |t|
      t.references :resource_owner, null: false
      t.references :application, null: false
      t.string :token, null: false, index: { unique: true }
      t.integer :expires_in, null: false
      t.text :redirect_uri, null: false
      t.datetime :created_at, null: false
      t.datetime :revoked_at
      t.string :scopes, null: false, default: ""
      t.string :code_challenge
      t.string :code_challenge_method
    end
    create_table(:oauth_access_tokens) do |t|
      t.references :resource_owner
      t.references :application, null: false
      t.string :token, null: false, index: { unique: true }
      t.string :refresh_token, index: { unique: true }
      t.integer :expires_in
      t.datetime :revoked_at
      t.datetime :created_at, null: false
      t.string :scopes
      t.string :previous_refresh_token, null: false, default: ""
    end
    create_table(:oauth_openid_requests) do |t|
      t.references :access_grant, null: false
      t.string :nonce, null: false
    end
  end
  PEOPLE.each { |name| User.create!(name: name) }
  JSON.parse(CLIENTS).each_value do |client|
    Doorkeeper::Application.create!(name: client["ID"], uid: client["ID"], secret: client["Secret"], redirect_uri: REDIRECT, scopes: "openid email profile groups")
  end
end

Rack::Handler::WEBrick.run(App, Port: PORT.to_i, Host: "127.0.0.1", AccessLog: [], Logger: WEBrick::Log.new($stderr, WEBrick::Log::WARN))
