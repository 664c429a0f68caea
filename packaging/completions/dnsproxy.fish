# fish completion for dnsproxy(8)

set -l commands serve check reload probe demo version help

complete -c dnsproxy -f
complete -c dnsproxy -n "not __fish_seen_subcommand_from $commands" -a serve -d 'Forward queries until told to stop'
complete -c dnsproxy -n "not __fish_seen_subcommand_from $commands" -a check -d 'Check a configuration and print what is in force'
complete -c dnsproxy -n "not __fish_seen_subcommand_from $commands" -a reload -d 'Check the configuration and have the daemon read it'
complete -c dnsproxy -n "not __fish_seen_subcommand_from $commands" -a probe -d 'Show what an upstream presents, with its pins'
complete -c dnsproxy -n "not __fish_seen_subcommand_from $commands" -a demo -d 'Try it: the same daemon beside an upstream of its own'
complete -c dnsproxy -n "not __fish_seen_subcommand_from $commands" -a version -d 'Print the version'
complete -c dnsproxy -n "not __fish_seen_subcommand_from $commands" -a help -d 'List the commands'

complete -c dnsproxy -n "__fish_seen_subcommand_from serve check reload probe" -l config -r -F -d 'The configuration'
complete -c dnsproxy -n "__fish_seen_subcommand_from serve demo" -l listen -x -d 'Serve this address and port'
complete -c dnsproxy -n "__fish_seen_subcommand_from check" -l quiet -d 'Print faults and warnings only'
complete -c dnsproxy -n "__fish_seen_subcommand_from probe" -l json -d 'Print JSON'
complete -c dnsproxy -n "__fish_seen_subcommand_from probe" -l timeout -x -d 'For each step'
complete -c dnsproxy -n "__fish_seen_subcommand_from reload" -l pid -x -a '(__fish_complete_pids)' -d 'Process of the daemon'
complete -c dnsproxy -n "__fish_seen_subcommand_from $commands" -l help -d 'Print the options'
