// Runs one member of the etcd release that go.mod names, for tests that compare with it. etcd does
// not publish its main package as a module that can be installed, but its embed package can be run.
// The flags are those of etcd that the tests use, with etcd's names.
package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	config := embed.NewConfig()
	flag.StringVar(&config.Name, "name", config.Name, "name of the member")
	flag.StringVar(&config.Dir, "data-dir", "default.etcd", "where the data lies")
	flag.StringVar(&config.InitialCluster, "initial-cluster", "", "name=URL of every member")
	flag.Uint64Var(&config.SnapshotCount, "snapshot-count", config.SnapshotCount, "")
	flag.UintVar(&config.ElectionMs, "election-timeout", config.ElectionMs, "in milliseconds")
	listenClient := flag.String("listen-client-urls", "", "one URL")
	advertiseClient := flag.String("advertise-client-urls", "", "one URL")
	listenPeer := flag.String("listen-peer-urls", "", "one URL")
	advertisePeer := flag.String("initial-advertise-peer-urls", "", "one URL")
	flag.Parse()

	config.ListenClientUrls = parse(*listenClient)
	config.AdvertiseClientUrls = parse(*advertiseClient)
	config.ListenPeerUrls = parse(*listenPeer)
	config.AdvertisePeerUrls = parse(*advertisePeer)
	config.LogLevel = "info"

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)

	member, err := embed.StartEtcd(config)
	if err != nil {
		refuse(err)
	}
	select {
	case <-stop:
		member.Close()
	case err := <-member.Err():
		refuse(err)
	}
}

func parse(text string) []url.URL {
	parsed, err := url.Parse(text)
	if err != nil {
		refuse(err)
	}
	return []url.URL{*parsed}
}

func refuse(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
