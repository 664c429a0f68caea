# fish completion for dnsproxy(8)

# Options that take a value, which may be a word of its own.
set -g __fish_dnsproxy_valued --config --listen --socket --pid --root --timeout

# The command line's words before the cursor, without options and their values.
function __fish_dnsproxy_words
    set -l valued no
    for word in (commandline -opc)
        if test $valued = yes
            set valued no
        else if contains -- $word $__fish_dnsproxy_valued
            set valued yes
        else if not string match -q -- '-*' $word
            echo -- $word
        end
    end
end

function __fish_dnsproxy_needs_command
    set -l words (__fish_dnsproxy_words)
    test (count $words) -eq 1
end

# Whether the command is one of these.
function __fish_dnsproxy_using
    set -l words (__fish_dnsproxy_words)
    test (count $words) -ge 2; and contains -- $words[2] $argv
end

# Whether the command's operand of that number, from 1 on, is wanted.
function __fish_dnsproxy_operand --argument-names command number
    set -l words (__fish_dnsproxy_words)
    test (count $words) -eq (math 1 + $number); and test $words[2] = $command
end

# The texts that the upstreams of the configuration have for that key.
function __fish_dnsproxy_upstreams --argument-names key
    set -l words (commandline -opc)
    set -l config (string match -- '--config=*' $words)
    if set -l at (contains -i -- --config $words)
        set -l next (math $at + 1)
        test (count $words) -ge $next; and set config --config=$words[$next]
    end
    command $words[1] check $config 2>/dev/null | awk -F '"' -v key=$key '
        /^\[/ { table = $0 }
        table == "[[upstream]]" && index($0, key " = ") == 1 {
            for (i = 2; i < NF; i += 2) {
                if (sub(/:853$/, "", $i)) gsub(/[][]/, "", $i)
                if ($i != "" && !seen[$i]++) print $i
            }
        }'
end

complete -c dnsproxy -f

complete -c dnsproxy -n __fish_dnsproxy_needs_command -a serve -d 'Forward queries until told to stop'
complete -c dnsproxy -n __fish_dnsproxy_needs_command -a check -d 'Check a configuration and print what is in force'
complete -c dnsproxy -n __fish_dnsproxy_needs_command -a reload -d 'Check the configuration and have the daemon read it'
complete -c dnsproxy -n __fish_dnsproxy_needs_command -a status -d 'Show what the daemon does and how its upstreams fare'
complete -c dnsproxy -n __fish_dnsproxy_needs_command -a flush -d 'Have the daemon forget cached answers'
complete -c dnsproxy -n __fish_dnsproxy_needs_command -a explain -d 'Have the daemon resolve a name, and tell how it did'
complete -c dnsproxy -n __fish_dnsproxy_needs_command -a probe -d 'Show what an upstream presents, with its pins'
complete -c dnsproxy -n __fish_dnsproxy_needs_command -a doctor -d 'Find what keeps this host from using dnsproxy'
complete -c dnsproxy -n __fish_dnsproxy_needs_command -a demo -d 'Try it: the same daemon beside an upstream of its own'
complete -c dnsproxy -n __fish_dnsproxy_needs_command -a version -d 'Print the version'
complete -c dnsproxy -n __fish_dnsproxy_needs_command -a help -d 'List the commands'

complete -c dnsproxy -n '__fish_dnsproxy_using serve check reload probe doctor' -l config -r -k -a '(__fish_complete_suffix .toml)' -d 'The configuration'
complete -c dnsproxy -n '__fish_dnsproxy_using serve demo' -l listen -x -d 'Serve this address and port'
complete -c dnsproxy -n '__fish_dnsproxy_using check' -l quiet -d 'Print faults and warnings only'
complete -c dnsproxy -n '__fish_dnsproxy_using reload' -l quiet -d 'Print faults only'
complete -c dnsproxy -n '__fish_dnsproxy_using reload' -l pid -x -a '(__fish_complete_pids)' -d 'Process of the daemon'
complete -c dnsproxy -n '__fish_dnsproxy_using reload status flush explain doctor' -l socket -r -F -d 'The control socket'
complete -c dnsproxy -n '__fish_dnsproxy_using status' -l watch -d 'Show it again each second'
complete -c dnsproxy -n '__fish_dnsproxy_using flush' -l subtree -d 'Forget the names below, too'
complete -c dnsproxy -n '__fish_dnsproxy_using explain' -l dnssec -d 'Ask for DNSSEC records, too'
complete -c dnsproxy -n '__fish_dnsproxy_using probe' -l timeout -x -a '1s 5s 10s' -d 'For each step'
complete -c dnsproxy -n '__fish_dnsproxy_using doctor' -l root -x -a '(__fish_complete_directories)' -d 'Look at the files of the system there'
complete -c dnsproxy -n '__fish_dnsproxy_using status flush explain probe doctor' -l json -d 'Print JSON'
complete -c dnsproxy -n '__fish_dnsproxy_using serve check reload status flush explain probe doctor demo version' -l help -d 'Print the options'

complete -c dnsproxy -n '__fish_dnsproxy_operand probe 1' -a '(__fish_dnsproxy_upstreams addresses)' -d Address
complete -c dnsproxy -n '__fish_dnsproxy_operand probe 2' -a '(__fish_dnsproxy_upstreams server_name)' -d 'Server name'
complete -c dnsproxy -n '__fish_dnsproxy_operand explain 2' -a 'A AAAA ANY CAA CNAME DNSKEY DS HTTPS MX NAPTR NS PTR SOA SRV SSHFP SVCB TLSA TXT' -d Type
