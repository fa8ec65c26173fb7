# What Perl's DBD::Pg does: it prepares what is executed a second time, and deallocates what goes out of scope.
use strict;
use warnings;
use DBI;
use DBD::Pg qw(:async);
use JSON::PP;

$| = 1;
my $json = JSON::PP->new->canonical->allow_nonref->ascii;

sub fact {
  my ($name, $value) = @_;
  print $json->encode({ fact => $name, value => $value }), "\n";
}

sub connected {
  my ($options) = @_;
  return DBI->connect("dbi:Pg:$options", undef, undef, { AutoCommit => 1, RaiseError => 1, PrintError => 0 });
}

sub failure_of {
  my ($ask) = @_;
  return eval { $ask->(); 1 } ? 'no error' : $DBI::state;
}

my @clients = map { connected('sslmode=disable') } 1 .. 8;
my ($client, $other) = @clients;
my $holder = connected('sslmode=disable');

fact('server', $client->{pg_server_version});
fact('simple', $client->selectrow_arrayref('SELECT 1, 2'));

# Every client asks while another transaction holds a server, and again when that one has just become free.
my (@values, @pids);
my @statements = map { $_->prepare('SELECT ?::int + 1, pg_backend_pid()') } @clients;
for my $round (1 .. 4) {
  for my $index (0 .. $#clients) {
    my $ask = sub {
      $statements[$index]->execute(scalar @values);
      my ($value, $pid) = $statements[$index]->fetchrow_array;
      $statements[$index]->finish;
      push @values, $value + 0;
      $pids[$index]{$pid} = 1;
    };
    $holder->begin_work;
    $holder->do('SELECT 1');
    $ask->();
    $holder->commit;
    $ask->();
  }
}
fact('prepared', \@values);
fact('servers', [map { scalar keys %$_ } @pids]);
@statements = (); # each is deallocated
$holder->disconnect;
fact('after DEALLOCATE', [map { ($_->selectrow_array('SELECT 1'))[0] } @clients]);

for my $n (0 .. 19) {
  my $statement = $client->prepare("SELECT " . ($n % 5) . ", ?::text");
  for (1 .. 3) {
    $statement->execute("x$_");
    fact("prepared and deallocated $n", $statement->fetchrow_arrayref);
    $statement->finish;
  }
}

my $insert = $client->prepare('INSERT INTO smoke VALUES (?, ?)');
$client->begin_work;
$insert->execute($_, 'rolled back') for 1 .. 3;
$client->rollback;
$client->begin_work;
$insert->execute($_, 'kept') for 1 .. 3;
$client->pg_savepoint('before');
fact('error in a transaction', failure_of(sub { $client->do('SELECT 1 / 0') }));
fact('the transaction after it', failure_of(sub { $insert->execute(4, 'lost') }));
$client->pg_rollback_to('before');
$client->commit;
fact('rows', $other->selectall_arrayref('SELECT * FROM smoke ORDER BY n'));
fact('error', failure_of(sub { $client->do('SELECT 1 / ?::int', undef, 0) }));
fact('after the error', $client->selectrow_arrayref('SELECT 1 / ?::int', undef, 1));
fact('a text that is wrong', failure_of(sub { $client->do('SELECT FROM FROM') }));
fact('many', $insert->execute_array({}, [10 .. 19], [('many') x 10]));

$client->do('COPY smoke FROM STDIN');
$client->pg_putcopydata("$_\tline $_\n") for 100 .. 1099;
$client->pg_putcopyend;
fact('copied in', $other->selectrow_arrayref('SELECT count(*), sum(n) FROM smoke'));
$client->do('COPY (SELECT n FROM smoke ORDER BY n) TO STDOUT');
my ($line, $lines) = ('', 0);
$lines++ while $client->pg_getcopydata($line) >= 0;
fact('copied out', $lines);
fact('copy that fails', failure_of(sub { $client->do('COPY nothing FROM STDIN') }));

my $types = $client->prepare('SELECT ?::bigint, ?::numeric, ?::bytea, ?::boolean, ?::int[], ?::text, NULL');
$types->bind_param(3, undef, { pg_type => DBD::Pg::PG_BYTEA });
for (1 .. 3) {
  $types->execute('9007199254740993', '1.50', "\0\xff", 1, [1, 2], "\x{fc}");
  fact('types', $types->fetchrow_arrayref);
  $types->finish;
}

$client->do("SET TimeZone = 'Asia/Tokyo'");
fact('TimeZone', $client->selectrow_arrayref("SELECT timestamptz '2000-01-01 00:00Z'::text"));
fact('TimeZone of another', $other->selectrow_arrayref('SHOW TimeZone'));
$other->do('DISCARD ALL');
fact('after DISCARD ALL', $other->selectrow_arrayref('SELECT ?::int', undef, 1));

my $sleeping = $client->prepare('SELECT pg_sleep(60)', { pg_async => PG_ASYNC });
$sleeping->execute;
my $running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
  . " AND query = 'SELECT pg_sleep(60)' AND datname = current_database()";
1 until ($other->selectrow_array($running))[0] == 1;
fact('canceled', $client->pg_cancel);
undef $sleeping;
fact('after the cancel', $client->selectrow_arrayref('SELECT 1'));

my $secure = connected('sslmode=verify-full;channel_binding=require');
fact('TLS', $secure->selectrow_arrayref('SELECT ?::text', undef, 'secure'));
undef $types;
undef $insert;
$_->disconnect for @clients, $secure;
