# ActiveRecord and its pool: a migration under its advisory lock, prepared statements, transactions, batches.
require "active_record"
require "logger"

CLIENTS = 8

ActiveRecord::Base.establish_connection(
  adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"], username: ENV["PGUSER"], password: ENV["PGPASSWORD"],
  database: ENV["PGDATABASE"], pool: CLIENTS + 1, variables: { statement_timeout: "60s" }
)
ActiveRecord::Base.default_timezone = :utc

class CreateShelves < ActiveRecord::Migration[6.1]
  def change
    create_table :authors do |t|
      t.string :name, null: false, index: { unique: true }
      t.integer :client, null: false
      t.integer :lock_version, default: 0
      t.jsonb :more, default: {}
      t.timestamps
    end
    create_table :books do |t|
      t.references :author, foreign_key: true, null: false
      t.string :title
    end
    add_index :books, :title, algorithm: nil
  end
end

class Author < ActiveRecord::Base
  has_many :books, dependent: :destroy
  validates :name, presence: true
end

class Book < ActiveRecord::Base
  belongs_to :author
end

# With the lock that keeps two migrations apart.
def migrate(direction)
  migration = CreateShelves.new("CreateShelves", 1)
  context = ActiveRecord::Migrator
  ActiveRecord::SchemaMigration.create_table
  ActiveRecord::InternalMetadata.create_table
  ActiveRecord::Migration.suppress_messages { context.new(direction, [migration], ActiveRecord::SchemaMigration, nil).migrate }
end

def records(client)
  seen = []
  author = Author.create!(name: "author #{client}", client: client, more: { "client" => client })
  5.times { |n| author.books.create!(title: "#{client}-#{n}") }
  Author.transaction do
    Author.lock.find(author.id).update!(more: { "changed" => client })
    begin
      Author.transaction(requires_new: true) { Author.create!(name: "author #{client}", client: client) }
    rescue ActiveRecord::RecordNotUnique => error
      seen << error.cause.result.error_field(PG::Result::PG_DIAG_SQLSTATE)
    end
  end
  Author.transaction { author.books.first.destroy; raise ActiveRecord::Rollback }
  seen << author.reload.more << author.books.order(:title).pluck(:title)
  stale = Author.find(author.id)
  author.update!(name: "author #{client} again")
  begin
    stale.update!(name: "stale")
  rescue ActiveRecord::StaleObjectError => error
    seen << error.class.name
  end
  12.times { |n| seen << Author.where(client: client).joins(:books).where(books: { title: "#{client}-#{n}" }).count }
  seen
end

def batches(client)
  author = Author.find_by!(client: client)
  Book.insert_all((0...250).map { |n| { author_id: author.id, title: "many #{client}" } })
  found = 0
  Book.where(title: "many #{client}").find_each(batch_size: 60) { found += 1 }
  [found, Book.where(title: "many #{client}").delete_all]
end

def settings(client)
  raw = ActiveRecord::Base.connection
  values = %w[statement_timeout standard_conforming_strings TimeZone client_min_messages]
  seen = values.map { |name| raw.select_value("SHOW #{name}") }
  raw.transaction(isolation: :serializable) { seen << raw.select_value("SHOW transaction_isolation") }
  begin
    raw.execute("SELECT 1/0")
  rescue ActiveRecord::StatementInvalid => error
    seen << error.message
  end
  seen << raw.get_advisory_lock(1000 + client) << raw.release_advisory_lock(1000 + client)
end

migrate(:up)
system(ENV.fetch("SETTLED"), exception: true)
connected = Queue.new
go_on = Queue.new
threads = (0...CLIENTS).map do |client|
  Thread.new do
    Thread.current.report_on_exception = false
    ActiveRecord::Base.connection_pool.with_connection do |conn|
      conn.select_value("SELECT 1")
      connected << client
      go_on.pop
      [records(client), batches(client), settings(client), conn.active?]
    end
  end
end
CLIENTS.times { connected.pop }
CLIENTS.times { go_on << true }
threads.each_with_index { |thread, client| puts "#{client} #{thread.value.inspect}" }
puts ActiveRecord::Base.connection.tables.sort.inspect
puts ActiveRecord::Base.connection.indexes(:books).map(&:columns).inspect
migrate(:down)
puts ActiveRecord::Base.connection.tables.sort.inspect
puts "done"
