%%% Dispatches the component's stanzas, in the link's process: C1 to C6.
-module(mod_mixpam_tap_component).

-export([sent/1]).

-import(mod_mixpam_tap_link, [attr/2, component/1, link_of/1, lower/1]).

-define(ADDRESS, <<"http://jabber.org/protocol/address">>).
-define(ROSTER, <<"jabber:iq:roster">>).
-define(TAP, <<"mixpam:tap:1">>).

-type stanza() :: mod_mixpam_tap_link:stanza().
-type xml() :: mod_mixpam_tap_link:xml().

%% Handles a stanza (done), has it routed, or lets it pass if it is not the component's.
-spec sent(stanza()) -> pass | done | {route, stanza()}.
sent(Pkt) ->
    {U, Host, R} = lower(xmpp:get_to(Pkt)),
    case link_of(Host) of
        {Pid, _} when Pid == self() ->
            case from_component(U, R, Host, Pkt) of
                done -> done;
                route -> in_a_users_name(Pkt)
            end;
        _ ->
            case ets:match_object(mixpam_link, {'_', '_', self(), '_'}) of
                [] -> pass;
                _ -> in_a_users_name(Pkt)
            end
    end.

%% C2
-spec in_a_users_name(stanza()) -> done | {route, stanza()}.
in_a_users_name(Pkt) ->
    {U, Host, _} = From = lower(xmpp:get_from(Pkt)),
    case U /= <<>> andalso link_of(Host) of
        {Link, _} when Link == self() -> mod_mixpam_tap_lists:judged(From, Pkt, Link);
        _ -> {route, Pkt}
    end.

%% C1 goes to the session's process as an Erlang message of this module: router, archive, carbons
%% and offline storage never see it. C4 is T1 again.
-spec from_component(binary(), binary(), binary(), stanza()) -> done | route.
from_component(<<>>, <<>>, Host, Pkt) when element(1, Pkt) == message;
                                           element(1, Pkt) == presence ->
    case [{xmpp:get_name(El), xmpp:get_ns(El)} || El <- lists:sublist(xmpp:get_els(Pkt), 1)] of
        [{<<"addresses">>, ?ADDRESS}] -> mod_mixpam_tap_sessions:deliver_to_all(Host, Pkt);
        [{<<"services">>, ?TAP}] -> services(Host, hd(xmpp:get_els(Pkt)));
        _ -> route
    end;
from_component(U, <<>>, Host, Pkt) when U /= <<>>, element(1, Pkt) == iq ->
    case {xmpp:get_type(Pkt), xmpp:get_els(Pkt), lower(xmpp:get_from(Pkt))} of
        {Type, [El], {<<>>, Component, <<>>}} when Type == get; Type == set ->
            case xmpp:get_ns(El) == ?ROSTER andalso component(Host) == Component of
                true -> mod_mixpam_tap_rosters:from_component(Type, U, Host, El, Pkt);
                false -> route
            end;
        _ -> route
    end;
from_component(U, R, Host, Pkt) when U /= <<>>, R /= <<>> ->
    mod_mixpam_tap_sessions:deliver_to(U, Host, R, xmpp:put_meta(Pkt, mixpam, true));
from_component(_, _, _, _) -> route.

%% C5
-spec services(binary(), xml()) -> done.
services(Host, {xmlel, _, Attrs, Els}) ->
    New = [D || {xmlel, <<"service">>, A, _} <- Els,
                D <- [jid:nameprep(attr(<<"jid">>, A))], is_binary(D), D /= <<>>],
    lists:foreach(fun(D) -> mnesia:dirty_write({mixpam_service, {Host, D}, true}) end, New),
    case attr(<<"complete">>, Attrs) of
        <<"true">> ->
            Kept = maps:from_keys(New, true),
            Known = mnesia:dirty_match_object({mixpam_service, {Host, '_'}, '_'}),
            [mnesia:dirty_delete(mixpam_service, {Host, D})
             || {_, {_, D}, _} <- Known, not is_map_key(D, Kept)],
            mod_mixpam_tap_batches:set(Host, attr(<<"multicast">>, Attrs)),
            mnesia:dirty_write({mixpam_link, Host, self(), up});
        _ -> ok
    end,
    done.
